package config

import "time"

// checkPush notes problems of push notifications; what is in the key files is
// found when they are read.
func (l *Loaded) checkPush() {
	c := &l.Config
	if c.PushAfter < time.Second || c.PushAfter > time.Hour {
		l.problem("push_after", "must be from 1s to 1h")
	}
	if c.PushInterval < time.Second || c.PushInterval > 24*time.Hour {
		l.problem("push_interval", "must be from 1s to 24h")
	}
	l.together("apns_key_file", c.APNsKeyFile, "apns_key_id", c.APNsKeyID, "apns_team_id", c.APNsTeamID)
	if c.APNsKeyFile != "" && c.APNsCert != "" {
		l.problem("apns_cert", "either apns_key_file or apns_cert, not both")
	}
	l.together("vapid_key_file", c.VAPIDKeyFile, "vapid_subject", c.VAPIDSubject)
}
