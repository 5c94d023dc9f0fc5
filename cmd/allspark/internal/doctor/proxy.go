package doctor

import (
	"fmt"

	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
)

// behindProxy reports whether clients come through a proxy.
func behindProxy(c *config.Config) bool { return c.ProxyURL != "" || len(c.TrustedProxies) > 0 }

// checkProxy says what the machine in front of the servers needs.
func checkProxy(f *Facts) []Finding {
	const check = "proxy"
	switch {
	case !behindProxy(&f.Config):
		return nil
	case len(f.Config.TrustedProxies) == 0:
		return []Finding{{
			check, Problem, "trusted_proxies is empty",
			fmt.Sprintf("All clients behind the proxy have its address, and share the limits of one: %d connections, %d messages a second.",
				f.Config.AddressConnections, f.Config.AddressRate),
			"--trusted-proxies ADDRESS",
		}}
	}
	found := fine(check, "not looked at: its idle time-out must be over 25 s, the time between pings (nginx: proxy_read_timeout)")
	found[0].Do = fmt.Sprintf("nginx: worker_rlimit_nofile %d; worker_connections %d; as in nginx/allspark.conf",
		2*(f.Config.MaxConnections+spareFiles), 2*f.Config.MaxConnections+spareFiles)
	return found
}
