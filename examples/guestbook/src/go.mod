module github.com/weft-dev/weft/examples/guestbook/src

go 1.26.0

require github.com/yuin/goldmark v1.8.7
