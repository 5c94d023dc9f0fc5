// Package apicheck holds the OpenAPI document, and what a server answers to its
// examples, against a validator that others have written. It is a module of its
// own, so that nobody who uses AllSpark gets what that needs.
package apicheck
