package main

import (
	"os"

	"github.com/weft-dev/weft/lazy/keeper"
)

func main() { os.Exit(keeper.Main(os.Args[1:], os.Stderr)) }
