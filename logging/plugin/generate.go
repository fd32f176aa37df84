package plugin

//go:generate go run ./generate
