package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

type addressKey struct{}

// WithAddress returns ctx for what a client at an address asks for.
func WithAddress(ctx context.Context, client netip.Addr) context.Context {
	return context.WithValue(ctx, addressKey{}, client)
}

// AddressOf returns the address of the client that is behind a call or a
// connection; the zero one when it is not known.
func AddressOf(ctx context.Context) netip.Addr {
	addr, _ := ctx.Value(addressKey{}).(netip.Addr)
	return addr
}

// Proxies are the networks of proxies whose word for where a request comes from
// is believed.
type Proxies []netip.Prefix

// ParseProxies reads addresses and networks, such as 10.0.0.1 and 10.0.0.0/8.
func ParseProxies(texts []string) (Proxies, error) {
	var all Proxies
	for _, text := range texts {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			addr, notAddr := netip.ParseAddr(text)
			if notAddr != nil {
				return nil, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", text)
			}
			network = netip.PrefixFrom(addr, addr.BitLen())
		}
		all = append(all, network)
	}
	return all, nil
}

// Locate notes in the context of each request where it comes from.
func (p Proxies) Locate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(WithAddress(r.Context(), p.client(r))))
	})
}

// client returns the address of who sent a request. Each proxy adds the one
// that it was asked from at the end of X-Forwarded-For; the last one that is
// not a proxy's is the client's, and what is before it is what the client says.
func (p Proxies) client(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := at.Addr().Unmap().WithZone("")
	if !p.Trust(addr) {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		before, err := parseHop(strings.TrimSpace(hop))
		if err != nil {
			break // addr is the last that anybody believed says
		}
		if addr = before; !p.Trust(addr) {
			break
		}
	}
	return addr
}

// parseHop reads an address, with or without a port.
func parseHop(text string) (netip.Addr, error) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr().Unmap().WithZone(""), nil
	}
	addr, err := netip.ParseAddr(text)
	return addr.Unmap().WithZone(""), err
}

// Trust reports whether an address is a proxy's.
func (p Proxies) Trust(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(network netip.Prefix) bool { return network.Contains(addr) })
}
