package server

import "github.com/allsparkrt/allspark/hook/ask"

// describeAuthorize has the counters told of what the app's backend is asked.
func describeAuthorize(st *ask.Stats, count func(name, help string, v uint64, labels ...string), gauge func(name, help string, v int, labels ...string)) {
	if st == nil {
		return
	}
	count("authorize_requests_total", "Questions sent to the app's backend.", st.Requests.Load())
	count("authorize_kept_total", "Questions answered by an answer that was kept.", st.Kept.Load())
	const answered, answeredHelp = "authorize_total", "Connects, joins and messages that the app's backend has allowed or denied."
	count(answered, answeredHelp, st.Allowed.Load(), "answer", "allowed")
	count(answered, answeredHelp, st.Denied.Load(), "answer", "denied")
	const failed, failedHelp = "authorize_failed_total", "Connects, joins and messages without an answer, by reason; authorize_failure says what follows."
	count(failed, failedHelp, st.FailedAnswer.Load(), "reason", "no_answer")
	count(failed, failedHelp, st.FailedBroken.Load(), "reason", "breaker_open")
	count(failed, failedHelp, st.FailedWaiting.Load(), "reason", "too_many_wait")
	count("authorize_breaker_opened_total", "How often it was found that the app's backend does not answer.", st.Opened.Load())
	open := 0
	if st.Broken.Load() {
		open = 1
	}
	gauge("authorize_breaker_open", "1 while the app's backend is left alone because it does not answer.", open)
}

// authorize returns who is asked what clients may do.
func (s *Server) authorize() ask.Config {
	c := s.cfg.Authorize()
	c.Log = s.log
	return c
}
