// Package scenario holds load scenarios: each drives devices against servers
// that run already, keeps account of every message, and reports what was lost,
// repeated or out of order, how long messages took, and what they cost.
package scenario
