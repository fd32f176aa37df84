//go:build !linux

package main

import "errors"

func becomeUser(int, int) error { return errors.New("builds need Linux") }
