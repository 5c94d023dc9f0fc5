package program

import (
	"context"
	"errors"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/process"
)

// Server is a peer's one process: started by the bench, or running by itself.
// Drivers embed it.
type Server struct {
	// Address is where it takes connections, HOST:PORT; empty: it is yet to be started.
	Address string

	pids    []int            // of one that runs by itself
	process *process.Process // of one that was started
}

// At is the server that env says is running, or one to be started.
func At(env peer.Env) Server { return Server{Address: env.Address, pids: env.PIDs} }

// Launch starts it and returns when it takes connections at address. After an
// error nothing runs.
func (s *Server) Launch(ctx context.Context, address string, c process.Command) (err error) {
	s.Address = address
	if s.process, err = process.Start(c); err != nil {
		return err
	}
	if err := s.process.Ready(ctx, process.TCP(address)); err != nil {
		return errors.Join(err, s.Stop())
	}
	return nil
}

// Stop ends what was started.
func (s *Server) Stop() error {
	if s.process == nil {
		return nil
	}
	err := s.process.Stop()
	s.process = nil
	return err
}

// Reach returns where it is, for other processes.
func (s *Server) Reach() peer.Env { return peer.Env{Address: s.Address} }

// PIDs is the process, if it is known.
func (s *Server) PIDs() []int {
	if s.process == nil {
		return s.pids
	}
	return []int{s.process.PID()}
}
