#!/usr/bin/env bash
# peers.sh [NAME]... installs the peers of the bench that a package registry
# has: nats, mosquitto, ejabberd, tinode, centrifugo; without names all of them. Go programs go
# where `go install` puts them, the rest comes from Debian, as root or through
# sudo. Other peers are driven by address or are found in PATH.
set -euo pipefail

nats_version=v2.15.2
tinode_version=v0.25.2
centrifugo_version=v5.4.9

here=$(cd "$(dirname "$0")" && pwd)
need=$here/../internal/tools/need
go_bin=$(go env GOBIN)
go_bin=${go_bin:-$(go env GOPATH | cut -d: -f1)/bin}

nats() {
	GOBIN=$go_bin go install "github.com/nats-io/nats-server/v2@$nats_version"
	"$go_bin/nats-server" --version
}

mosquitto() {
	"$need" mosquitto:mosquitto!
}

ejabberd() {
	"$need" ejabberdctl:ejabberd!
}

# Centrifugo, built as Tinode is.
centrifugo() (
	module=$(mktemp -d)
	trap 'rm -rf "$module"' EXIT
	cd "$module"
	go mod init peers >/dev/null 2>&1
	go mod edit -require="github.com/centrifugal/centrifugo/v5@$centrifugo_version"
	GOFLAGS=-mod=mod go build -o "$go_bin/centrifugo" github.com/centrifugal/centrifugo/v5
	echo "centrifugo: $centrifugo_version"
)

# Tinode, the program that makes its tables, and PostgreSQL. They are built in a
# module that requires this version and nothing else.
tinode() (
	"$need" psql:postgresql!
	module=$(mktemp -d)
	trap 'rm -rf "$module"' EXIT
	cd "$module"
	go mod init peers >/dev/null 2>&1
	go mod edit -require="github.com/tinode/chat@$tinode_version"
	export GOFLAGS=-mod=mod
	stamp="-X main.buildstamp=$tinode_version"
	go build -tags postgres -ldflags "$stamp" -o "$go_bin/tinode" github.com/tinode/chat/server
	go build -tags postgres -o "$go_bin/tinode-db" github.com/tinode/chat/tinode-db
	echo "tinode: $tinode_version"
)

for peer in "${@:-nats mosquitto ejabberd tinode centrifugo}"; do
	for name in $peer; do
		case $name in
		nats | mosquitto | ejabberd | tinode | centrifugo) "$name" ;;
		*)
			echo "peers.sh: $name is not one of nats, mosquitto, ejabberd, tinode, centrifugo" >&2
			exit 2
			;;
		esac
	done
done
