module github.com/weft-dev/weft/examples/environments

go 1.26.0
