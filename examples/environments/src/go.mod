module github.com/weft-dev/weft/examples/environments/src

go 1.26.0
