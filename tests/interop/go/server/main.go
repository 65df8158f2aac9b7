// The matrix's tools, prompts and resources on the Go SDK's server: over stdio, or `server http` at a URL that it prints.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	note  = "mem://note"
	pause = 200 * time.Millisecond // after an update: many a client loses one that shares a read with the answer
)

type none struct{}

var (
	lock   sync.Mutex
	states = map[string]string{}
)

func become(tag, state string) {
	lock.Lock()
	defer lock.Unlock()
	states[tag] = state
}

func text(value string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: value}}}
}

func progress(ctx context.Context, request *mcp.CallToolRequest, value, total float64, message string) {
	if token := request.Params.GetProgressToken(); token != nil {
		params := &mcp.ProgressNotificationParams{ProgressToken: token, Progress: value, Total: total, Message: message}
		_ = request.Session.NotifyProgress(ctx, params)
	}
}

func contents(uri, value string) *mcp.ReadResourceResult {
	one := &mcp.ResourceContents{URI: uri, MIMEType: "text/plain", Text: value}
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{one}}
}

func addTools(server *mcp.Server) {
	type said struct {
		Text string `json:"text"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, in said) (*mcp.CallToolResult, any, error) {
		return text(in.Text), nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "fail"}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, any, error) {
		return nil, nil, errors.New("as asked")
	})

	type count struct {
		Count int `json:"count"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "steps"}, func(ctx context.Context, request *mcp.CallToolRequest, in count) (*mcp.CallToolResult, any, error) {
		for step := 1; step <= in.Count; step++ {
			progress(ctx, request, float64(step), float64(in.Count), fmt.Sprintf("step %d", step))
			time.Sleep(pause)
		}
		return text("done"), nil, nil
	})

	type tagged struct {
		Tag string `json:"tag"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "wait"}, func(ctx context.Context, request *mcp.CallToolRequest, in tagged) (*mcp.CallToolResult, any, error) {
		become(in.Tag, "running")
		defer become(in.Tag, "stopped")
		progress(ctx, request, 1, 0, "running")
		<-ctx.Done()
		return nil, nil, ctx.Err()
	})
	mcp.AddTool(server, &mcp.Tool{Name: "state"}, func(_ context.Context, _ *mcp.CallToolRequest, in tagged) (*mcp.CallToolResult, any, error) {
		lock.Lock()
		defer lock.Unlock()
		if state, known := states[in.Tag]; known {
			return text(state), nil, nil
		}
		return text("unknown"), nil, nil
	})

	mcp.AddTool(server, &mcp.Tool{Name: "greet"}, func(_ context.Context, request *mcp.CallToolRequest, _ none) (*mcp.CallToolResult, any, error) {
		if answer, answered := request.Params.InputResponses["name"].(*mcp.ElicitResult); answered {
			if answer.Action != "accept" {
				return text(answer.Action), nil, nil
			}
			return text(fmt.Sprintf("Hello %v", answer.Content["name"])), nil, nil
		}
		schema := map[string]any{
			"type":       "object",
			"properties": map[string]any{"name": map[string]any{"type": "string"}},
			"required":   []string{"name"},
		}
		ask := &mcp.ElicitParams{Message: "Your name?", RequestedSchema: schema}
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"name": ask}}, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "sample"}, func(_ context.Context, request *mcp.CallToolRequest, _ none) (*mcp.CallToolResult, any, error) {
		switch answer := request.Params.InputResponses["model"].(type) {
		case *mcp.CreateMessageResult:
			return text("The model says " + answer.Content.(*mcp.TextContent).Text), nil, nil
		case *mcp.CreateMessageWithToolsResult:
			return text("The model says " + answer.Content[0].(*mcp.TextContent).Text), nil, nil
		}
		question := &mcp.SamplingMessage{Role: "user", Content: &mcp.TextContent{Text: "Two and two?"}}
		ask := &mcp.CreateMessageParams{Messages: []*mcp.SamplingMessage{question}, MaxTokens: 5}
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"model": ask}}, nil, nil
	})

	mcp.AddTool(server, &mcp.Tool{Name: "change"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ none) (*mcp.CallToolResult, any, error) {
		// Adding a tool is what tells of the list; the list is as before.
		server.AddTool(&mcp.Tool{Name: "fleeting", InputSchema: map[string]any{"type": "object"}}, nil)
		server.RemoveTools("fleeting")
		return text("changed"), nil, server.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: note})
	})
}

func addOthers(server *mcp.Server) {
	topic := &mcp.PromptArgument{Name: "topic", Required: true}
	server.AddPrompt(&mcp.Prompt{Name: "ask", Arguments: []*mcp.PromptArgument{topic}}, func(_ context.Context, request *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		if request.Params.Arguments["topic"] == "" {
			return nil, errors.New("topic is missing")
		}
		question := &mcp.TextContent{Text: "What about " + request.Params.Arguments["topic"] + "?"}
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: question}}}, nil
	})
	server.AddResource(&mcp.Resource{Name: "note", URI: note, MIMEType: "text/plain"}, func(_ context.Context, request *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return contents(request.Params.URI, "a note"), nil
	})
	item := &mcp.ResourceTemplate{Name: "item", URITemplate: "mem://item/{key}", MIMEType: "text/plain"}
	server.AddResourceTemplate(item, func(_ context.Context, request *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return contents(request.Params.URI, "item "+strings.TrimPrefix(request.Params.URI, "mem://item/")), nil
	})
}

func main() {
	options := &mcp.ServerOptions{
		Instructions:       "For the matrix.",
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "go", Version: "1"}, options)
	addTools(server)
	addOthers(server)
	var err error
	if len(os.Args) > 1 && os.Args[1] == "http" {
		err = serveHTTP(server)
	} else {
		err = server.Run(context.Background(), &mcp.StdioTransport{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func serveHTTP(server *mcp.Server) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s/mcp\n", listener.Addr())
	// Without the option nobody can cancel a request of the newest revision, in which a cancel is that the client hangs up.
	get := func(*http.Request) *mcp.Server { return server }
	newest := mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true})
	older := mcp.NewStreamableHTTPHandler(get, nil)
	// The SDK serves the newest revision by a stateless handler only, and sessions by the other kind.
	return http.Serve(listener, http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		if request.Header.Get("Mcp-Protocol-Version") == "2026-07-28" {
			newest.ServeHTTP(answer, request)
		} else {
			older.ServeHTTP(answer, request)
		}
	}))
}
