// Package tools is a module of its own that pins the tools of the project, so
// that nobody who imports AllSpark downloads them:
//
//	go tool -modfile=internal/tools/go.mod staticcheck ./...
package tools
