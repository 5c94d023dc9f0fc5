// Package target starts the servers that a load scenario drives, as processes
// of their own so that what they use can be told from what the load uses, and
// makes the auth keys of the devices. It also describes servers that run already.
package target
