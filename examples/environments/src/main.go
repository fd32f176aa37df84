// Command greeter answers every request with a greeting.
package main

import (
	"cmp"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	greeting := cmp.Or(os.Getenv("GREETING"), "hello")
	server := &http.Server{
		Addr:              ":" + cmp.Or(os.Getenv("PORT"), "8080"),
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s from %s\n", greeting, cmp.Or(os.Getenv("ENVIRONMENT"), "nowhere"))
		}),
	}
	log.Fatal(server.ListenAndServe())
}
