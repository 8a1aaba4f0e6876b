// Calls a model API over and over with Go's own TLS, each time on a new connection.
package main

import (
	"io"
	"net/http"
	"strings"
	"time"
)

func main() {
	const body = `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hi"}]}`
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: false}}
	for {
		answer, err := client.Post("https://api.openai.com/v1/chat/completions", "application/json", strings.NewReader(body))
		if err == nil {
			io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
		}
		time.Sleep(500 * time.Millisecond)
	}
}
