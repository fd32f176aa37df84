//go:build !linux

package lazy

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/weft-dev/weft/lazy/keeper"
)

func newGuard(context.Context, *Service) (guard, error) {
	return nil, fmt.Errorf("%w: images are mounted on Linux only", ErrCannot)
}

// Restore mounts again what was mounted when the machine stopped.
func (s *Service) Restore(context.Context) error { return nil }

type readAhead struct{}

func (s *Service) kernelMount(*Image, string, int) error { return errors.ErrUnsupported }

func (s *Service) mountAgain(context.Context, *Image) error { return errors.ErrUnsupported }

func served(string) (worker bool, p keeper.Processes) { return false, p }

// Refuse makes sure that nothing that is needed lies on a lazy mount.
func Refuse(string) error { return ErrCannot }

func (s *Service) mountable() error { return ErrCannot }

func unmount(string) error { return errors.ErrUnsupported }

func replaceQuickly(from, to string) error { return os.Rename(from, to) }
