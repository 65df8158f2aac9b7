// The Go SDK's client: `client auto|legacy PLANS COMMAND...`, or a URL. The cases are those of cases.py.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	limit  = 20 * time.Second
	short  = 500 * time.Millisecond // after which the client of the case `timeout` gives up
	modern = "2026-07-28"
)

type object = map[string]any

// A call is a name and arguments, as the plans have it.
type call struct {
	name      string
	arguments object
}

func (c *call) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&c.name, &c.arguments})
}

type plan struct {
	Call, Fail, Invalid, Next, Get *call
	State, URI                     string
	Hears, Read                    []string
	Again                          bool
	Sure, Calls                    int
	Sizes                          []int
}

// ---- what the server asks, and what it tells ----

type client struct {
	session *mcp.ClientSession
	lock    sync.Mutex
	action  string
	asked   []any
	heard   map[string]bool
	acked   chan string
	follow  map[any]func(*mcp.ProgressNotificationParams)
}

func (c *client) hear(what string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.heard[what] = true
}

func (c *client) ask(question object) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.asked = append(c.asked, question)
}

func (c *client) options() *mcp.ClientOptions {
	return &mcp.ClientOptions{
		ElicitationHandler: func(_ context.Context, request *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			schema := plain(request.Params.RequestedSchema).(object)
			c.ask(object{"message": request.Params.Message, "fields": keys(schema["properties"].(object))})
			if c.action != "accept" {
				return &mcp.ElicitResult{Action: c.action}, nil
			}
			return &mcp.ElicitResult{Action: "accept", Content: object{"name": "Ada"}}, nil
		},
		CreateMessageHandler: func(_ context.Context, request *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			question := request.Params.Messages[0].Content.(*mcp.TextContent).Text
			c.ask(object{"message": question, "maxTokens": request.Params.MaxTokens})
			return &mcp.CreateMessageResult{Role: "assistant", Model: "abacus", Content: &mcp.TextContent{Text: "four"}}, nil
		},
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { c.hear("tools") },
		ResourceUpdatedHandler: func(_ context.Context, request *mcp.ResourceUpdatedNotificationRequest) {
			c.hear(request.Params.URI)
		},
		ProgressNotificationHandler: func(_ context.Context, request *mcp.ProgressNotificationClientRequest) {
			c.lock.Lock()
			follow := c.follow[request.Params.ProgressToken]
			c.lock.Unlock()
			if follow != nil {
				follow(request.Params)
			}
		},
	}
}

// ---- what was seen ----

func plain(value any) any {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	var told any
	_ = json.Unmarshal(data, &told)
	return told
}

func refusal(err error) object {
	var answer *jsonrpc.Error
	if errors.As(err, &answer) {
		return object{"error": answer.Code, "message": answer.Message}
	}
	return object{"error": "client", "message": err.Error()}
}

func seen[T any](result T, err error) any {
	if err != nil {
		return refusal(err)
	}
	return plain(result)
}

func keys[V any](values map[string]V) []string {
	names := []string{}
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func byName(page any, kind, key string) any {
	told := page.(object)
	if items, listed := told[kind].([]any); listed {
		named := object{}
		for _, one := range items {
			item := one.(object)
			name := item[key].(string)
			delete(item, key)
			named[name] = item
		}
		told[kind] = named
	}
	return told
}

func text(result *mcp.CallToolResult, err error) string {
	if err != nil {
		panic(err)
	}
	return result.Content[0].(*mcp.TextContent).Text
}

func (c *client) call(ctx context.Context, one *call, follow func(*mcp.ProgressNotificationParams)) (*mcp.CallToolResult, error) {
	params := &mcp.CallToolParams{Meta: mcp.Meta{}, Name: one.name, Arguments: one.arguments}
	if follow != nil {
		token := rand.Text()
		params.SetProgressToken(token)
		c.lock.Lock()
		c.follow[token] = follow
		c.lock.Unlock()
	}
	return c.session.CallTool(ctx, params)
}

func tagged(one *call) (string, *call) {
	tag := rand.Text()
	arguments := object{}
	for key, value := range one.arguments {
		if value == "TAG" {
			value = tag
		}
		arguments[key] = value
	}
	return tag, &call{one.name, arguments}
}

func (c *client) afterwards(ctx context.Context, plan plan, tag string, found object) object {
	if plan.State != "" {
		state := &call{plan.State, object{"tag": tag}}
		for until := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			found["handler"] = text(c.call(ctx, state, nil))
			if found["handler"] == "stopped" || time.Now().After(until) {
				break
			}
		}
	}
	found["next"] = text(c.call(ctx, plan.Next, nil))
	return found
}

// ---- the cases ----

func (c *client) opening() any {
	told := c.session.InitializeResult()
	return object{
		"version":      told.ProtocolVersion,
		"server":       plain(told.ServerInfo),
		"capabilities": plain(told.Capabilities),
		"instructions": told.Instructions != "",
	}
}

func (c *client) tools(ctx context.Context, plan plan) any {
	return object{
		"list":    byName(seen(c.session.ListTools(ctx, nil)), "tools", "name"),
		"call":    seen(c.call(ctx, plan.Call, nil)),
		"fail":    seen(c.call(ctx, plan.Fail, nil)),
		"invalid": seen(c.call(ctx, plan.Invalid, nil)),
		"unknown": seen(c.call(ctx, &call{"no-such-tool", object{}}, nil)),
	}
}

func (c *client) progress(ctx context.Context, plan plan) any {
	var lock sync.Mutex
	updates := []any{}
	result := seen(c.call(ctx, plan.Call, func(update *mcp.ProgressNotificationParams) {
		lock.Lock()
		defer lock.Unlock()
		updates = append(updates, []any{update.Progress, update.Total, update.Message})
	}))
	lock.Lock()
	defer lock.Unlock()
	return object{"updates": updates[:min(plan.Sure, len(updates))], "result": result}
}

func (c *client) bulk(ctx context.Context, plan plan) any {
	echoed := make([]bool, plan.Calls)
	var all sync.WaitGroup
	for number := range plan.Calls {
		all.Add(1)
		go func() {
			defer all.Done()
			said := fmt.Sprintf("%d é\u2028\U0001f600", number)
			result, err := c.call(ctx, &call{"echo", object{"text": said}}, nil)
			echoed[number] = err == nil && text(result, err) == said
		}()
	}
	all.Wait()
	sizes := []int{}
	for _, size := range plan.Sizes {
		sizes = append(sizes, len(text(c.call(ctx, &call{"big", object{"bytes": size}}, nil))))
	}
	return object{"echoed": !slices.Contains(echoed, false), "sizes": sizes}
}

func (c *client) abort(ctx context.Context, plan plan) any {
	tag, tool := tagged(plan.Call)
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := seen(c.call(calling, tool, func(*mcp.ProgressNotificationParams) { cancel() }))
	return c.afterwards(ctx, plan, tag, object{"ended": ended})
}

func (c *client) timeout(ctx context.Context, plan plan) any {
	tag, tool := tagged(plan.Call)
	calling, cancel := context.WithTimeout(ctx, short)
	defer cancel()
	ended := seen(c.call(calling, tool, nil))
	return c.afterwards(ctx, plan, tag, object{"ended": ended})
}

func (c *client) elicitation(ctx context.Context, plan plan) any {
	found := object{}
	for _, c.action = range []string{"accept", "decline"} {
		found[c.action] = c.sampling(ctx, plan)
	}
	return found
}

func (c *client) sampling(ctx context.Context, plan plan) any {
	c.asked = []any{}
	result := seen(c.call(ctx, plan.Call, nil))
	c.lock.Lock()
	defer c.lock.Unlock()
	return object{"asked": c.asked, "result": result}
}

func (c *client) listen(ctx context.Context, plan plan) any {
	c.lock.Lock()
	c.heard = map[string]bool{}
	c.lock.Unlock()
	found := object{}
	// Tools are listened for when it connects, to a server of the newest revision. It does not wait for the
	// server's acknowledgement, before which nothing is promised.
	found["honored"] = seen(true, c.session.Subscribe(ctx, &mcp.SubscribeParams{URI: plan.URI}))
	if c.session.InitializeResult().ProtocolVersion == modern {
		late := time.After(3 * time.Second)
		for waits := true; waits; {
			select {
			case filter := <-c.acked:
				waits = !strings.Contains(filter, plan.URI)
			case <-late:
				waits = false
			}
		}
	}
	found["result"] = seen(c.call(ctx, plan.Call, nil))
	all := func() bool {
		c.lock.Lock()
		defer c.lock.Unlock()
		return !slices.ContainsFunc(plan.Hears, func(one string) bool { return !c.heard[one] })
	}
	for until := time.Now().Add(3 * time.Second); !all() && time.Now().Before(until); {
		time.Sleep(20 * time.Millisecond)
	}
	if plan.Again {
		_, _ = c.call(ctx, plan.Call, nil)
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	found["heard"] = slices.DeleteFunc(keys(c.heard), func(one string) bool { return !slices.Contains(plan.Hears, one) })
	return found
}

func (c *client) prompts(ctx context.Context, plan plan) any {
	get := func(name string, given object) any {
		arguments := map[string]string{}
		for key, value := range given {
			arguments[key] = value.(string)
		}
		return seen(c.session.GetPrompt(ctx, &mcp.GetPromptParams{Name: name, Arguments: arguments}))
	}
	return object{
		"list":    byName(seen(c.session.ListPrompts(ctx, nil)), "prompts", "name"),
		"get":     get(plan.Get.name, plan.Get.arguments),
		"invalid": get(plan.Get.name, object{}),
		"unknown": get("no-such-prompt", object{}),
	}
}

func (c *client) resources(ctx context.Context, plan plan) any {
	read := []any{}
	for _, uri := range plan.Read {
		read = append(read, seen(c.session.ReadResource(ctx, &mcp.ReadResourceParams{URI: uri})))
	}
	return object{
		"list":      byName(seen(c.session.ListResources(ctx, nil)), "resources", "uri"),
		"templates": byName(seen(c.session.ListResourceTemplates(ctx, nil)), "resourceTemplates", "uriTemplate"),
		"read":      read,
		"unknown":   seen(c.session.ReadResource(ctx, &mcp.ReadResourceParams{URI: "mem://no-such"})),
	}
}

func (c *client) run(name string, plan plan) (found any) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	defer func() {
		if broken := recover(); broken != nil {
			found = object{"broken": fmt.Sprintf("%.300v", broken)}
		}
	}()
	switch name {
	case "opening":
		return c.opening()
	case "tools":
		return c.tools(ctx, plan)
	case "progress":
		return c.progress(ctx, plan)
	case "bulk":
		return c.bulk(ctx, plan)
	case "abort":
		return c.abort(ctx, plan)
	case "timeout":
		return c.timeout(ctx, plan)
	case "elicitation":
		return c.elicitation(ctx, plan)
	case "sampling":
		return c.sampling(ctx, plan)
	case "listen":
		return c.listen(ctx, plan)
	case "prompts":
		return c.prompts(ctx, plan)
	case "resources":
		return c.resources(ctx, plan)
	}
	panic("no such case")
}

func main() {
	mode, command := os.Args[1], os.Args[3:]
	c := &client{action: "accept", heard: map[string]bool{}, acked: make(chan string, 8), follow: map[any]func(*mcp.ProgressNotificationParams){}}
	version := modern
	if mode == "legacy" {
		version = "2025-11-25"
	}
	var transport mcp.Transport
	if strings.HasPrefix(command[0], "http:") {
		transport = &mcp.StreamableClientTransport{Endpoint: command[0]}
	} else {
		server := exec.Command(command[0], command[1:]...)
		server.Stderr = os.Stderr
		transport = &mcp.CommandTransport{Command: server}
	}
	var err error
	made := mcp.NewClient(&mcp.Implementation{Name: "go", Version: "1"}, c.options())
	made.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, request mcp.Request) (mcp.Result, error) {
			if method == "notifications/subscriptions/acknowledged" {
				filter, _ := json.Marshal(request.GetParams())
				c.acked <- string(filter)
			}
			return next(ctx, method, request)
		}
	})
	c.session, err = made.Connect(context.Background(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer c.session.Close()
	// Plans keep their order, which a map does not.
	decoder := json.NewDecoder(bytes.NewReader([]byte(os.Args[2])))
	_, _ = decoder.Token()
	for decoder.More() {
		name, _ := decoder.Token()
		var one plan
		if err := decoder.Decode(&one); err != nil {
			panic(err)
		}
		line, _ := json.Marshal(object{"case": name, "seen": c.run(name.(string), one)})
		fmt.Println(string(line))
	}
}
