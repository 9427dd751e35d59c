package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"time"

	authsvc "github.com/authsvc/authsvc/clients/go"
)

// What a busy machine may take, unless a case is about deadlines.
const unhurried = 30 * time.Second

type vector struct {
	Name   string
	Given  map[string]any
	Client clientOf
	Steps  []step
}

type step struct {
	WriteKeyFile writing `json:"write_key_file"`
	Do           map[string]string
	Call         *call
	Expect       map[string]any
	Sent         map[string]any
}

type call struct {
	Method          string
	Credential      string
	Audience        string
	RequiredScopes  []string `json:"required_scopes"`
	AnyOfScopes     []string `json:"any_of_scopes"`
	ClientIP        string   `json:"client_ip"`
	UserAgent       string   `json:"user_agent"`
	Cost            *uint32
	DeadlineSeconds *float64 `json:"deadline_seconds"`
	RPC             string
	Request         map[string]any
	Headers         [][2]string
	Accept          []authsvc.CredentialType
	Listed          *bool
	Public          bool
}

// run runs a case, and returns what is wrong. One with guards is run with gRPC's and then with HTTP's.
func run(name string) []string {
	var problems []string
	for _, kind := range []string{"grpc", "http"} {
		var made vector
		if err := control("/begin", &made, url.Values{"case": {name}}); err != nil {
			return []string{err.Error()}
		}
		hasGuards := false
		for _, each := range made.Steps {
			hasGuards = hasGuards || each.Call != nil && each.Call.Method == "guard"
		}
		for _, problem := range made.run(kind) {
			problems = append(problems, kind+": "+problem)
		}
		if !hasGuards {
			break
		}
	}
	return problems
}

func (v *vector) run(kind string) []string {
	directory, err := os.MkdirTemp("", "authsvc")
	if err != nil {
		return []string{err.Error()}
	}
	defer func() { _ = os.RemoveAll(directory) }()
	file := filepath.Join(directory, "authsvc.key")
	client, err := v.Client.make(v.Given, file)
	if err != nil {
		return append(differences(outcomeOf(err), v.Steps[0].Expect), v.check(0)...)
	}
	defer func() { _ = client.Close() }()
	var problems []string
	for number, each := range v.Steps {
		for _, problem := range v.step(client, number, each, file, kind) {
			problems = append(problems, fmt.Sprintf("step %d: %s", number, problem))
		}
	}
	return problems
}

func (v *vector) step(client *authsvc.Client, number int, each step, file, kind string) []string {
	query := url.Values{"case": {v.Name}, "step": {strconv.Itoa(number)}}
	switch {
	case each.WriteKeyFile.isSet:
		return texts(each.WriteKeyFile.write(file))
	case each.Do != nil:
		return texts(control("/do", &struct{}{}, query))
	case each.Call.Method == "guard":
		admitted, _ := each.Expect["admitted"].(bool)
		if _, isHere := each.Expect[kind]; !admitted && !isHere {
			return nil
		}
		if each.Call.Public && kind == "http" {
			// A handler that is public is not wrapped by a Middleware, so nothing of this package would be run.
			fmt.Printf("# %s, step %d, over http: SKIP a public handler has no guard\n", v.Name, number)
			return nil
		}
		return append(guarded(kind, client, each.Call, each.Expect), v.check(number)...)
	}
	return append(differences(each.Call.outcome(client), each.Expect), v.check(number)...)
}

// check returns what was sent otherwise than a step expects.
func (v *vector) check(number int) []string {
	if v.Steps[number].Sent == nil {
		return nil
	}
	var answer struct{ Problems []string }
	query := url.Values{"case": {v.Name}, "step": {strconv.Itoa(number)}}
	if err := control("/check", &answer, query); err != nil {
		return []string{err.Error()}
	}
	return answer.Problems
}

func texts(err error) []string {
	if err != nil {
		return []string{err.Error()}
	}
	return nil
}

// differences returns how an outcome differs in what is expected.
func differences(found, expected map[string]any) []string {
	var problems []string
	for name, value := range expected {
		if name == "retry_after_at_least_seconds" {
			if seconds, _ := found["retry_after_seconds"].(float64); seconds < value.(float64) {
				problems = append(problems, fmt.Sprintf("retry_after is %v, less than %v", seconds, value))
			}
			continue
		}
		if response, isResponse := value.(map[string]any); isResponse && name == "response" {
			told, _ := found["response"].(map[string]any)
			problems = append(problems, differences(told, response)...)
			continue
		}
		if !reflect.DeepEqual(found[name], value) {
			problems = append(problems, fmt.Sprintf("%s is %v instead of %v", name, found[name], value))
		}
	}
	return problems
}

// clientOf is how the client of a case is made.
type clientOf struct {
	Key             given   `json:"key"`
	KeyFile         writing `json:"key_file"`
	Address         string
	TLS             bool
	DeadlineSeconds any `json:"deadline_seconds"`
	Attempts        int
}

func (c *clientOf) make(given map[string]any, file string) (*authsvc.Client, error) {
	address, key := os.Getenv("AUTHSVC_SCRIPTED"), authsvc.KeyString("own")
	if _, isReal := given["service"]; isReal {
		address, key = os.Getenv("AUTHSVC_SERVICE"), authsvc.KeyString(os.Getenv("AUTHSVC_KEY"))
	}
	switch {
	case c.KeyFile.isSet:
		if err := c.KeyFile.write(file); err != nil {
			return nil, err
		}
		key = authsvc.KeyFile(file)
	case c.Key.isSet && c.Key.text == nil:
		key = authsvc.NoKey()
	case c.Key.isSet:
		key = authsvc.KeyString(*c.Key.text)
	}
	if c.Address != "" {
		address = c.Address
	}
	var options []authsvc.Option
	switch seconds := c.DeadlineSeconds.(type) {
	case nil:
		options = append(options, authsvc.WithDeadline(unhurried))
	case float64:
		options = append(options, authsvc.WithDeadline(time.Duration(seconds*float64(time.Second))))
	}
	if c.Attempts > 0 {
		options = append(options, authsvc.WithAttempts(c.Attempts))
	}
	if c.TLS {
		options = append(options, authsvc.WithTLS(&tls.Config{}))
	} else {
		options = append(options, authsvc.WithPlaintext())
	}
	return authsvc.New(address, key, options...)
}

// given is a text or null, or nothing at all.
type given struct {
	isSet bool
	text  *string
}

func (g *given) UnmarshalJSON(content []byte) error {
	g.isSet = true
	return unmarshal(content, &g.text)
}

// writing is the text of a key file; null for none.
type writing struct{ given }

func (w *writing) write(file string) error {
	if w.text != nil {
		return os.WriteFile(file, []byte(*w.text), 0o600)
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
