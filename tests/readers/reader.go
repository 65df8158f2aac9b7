// Reads messages as a server in Go does, with encoding/json into structs, and says what it found under each key.
package main

import (
	"bufio"
	"encoding/json"
	"os"
)

type object struct {
	Name         json.RawMessage `json:"name"`
	URI          json.RawMessage `json:"uri"`
	TaskID       json.RawMessage `json:"taskId"`
	RequestState json.RawMessage `json:"requestState"`
	RequestID    json.RawMessage `json:"requestId"`
	Cursor       json.RawMessage `json:"cursor"`
	Token        json.RawMessage `json:"progressToken"`
	ResultType   json.RawMessage `json:"resultType"`
	Ref          struct {
		Name json.RawMessage `json:"name"`
		URI  json.RawMessage `json:"uri"`
	} `json:"ref"`
	Task struct {
		TaskID json.RawMessage `json:"taskId"`
	} `json:"task"`
	Meta struct {
		Token        json.RawMessage `json:"progressToken"`
		Subscription json.RawMessage `json:"io.modelcontextprotocol/subscriptionId"`
	} `json:"_meta"`
}

type message struct {
	ID     json.RawMessage `json:"id"`
	Method json.RawMessage `json:"method"`
	Params object          `json:"params"`
	Result object          `json:"result"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			out.Encode(err.Error())
			continue
		}
		found := map[string]json.RawMessage{"id": m.ID, "method": m.Method}
		for place, o := range map[string]object{"params": m.Params, "result": m.Result} {
			for key, value := range map[string]json.RawMessage{
				"name": o.Name, "uri": o.URI, "taskId": o.TaskID, "requestState": o.RequestState,
				"requestId": o.RequestID, "cursor": o.Cursor, "progressToken": o.Token, "resultType": o.ResultType,
				"ref.name": o.Ref.Name, "ref.uri": o.Ref.URI, "task.taskId": o.Task.TaskID,
				"_meta.progressToken": o.Meta.Token, "_meta.io.modelcontextprotocol/subscriptionId": o.Meta.Subscription,
			} {
				found[place+"."+key] = value
			}
		}
		for key, value := range found {
			if value == nil {
				delete(found, key)
			}
		}
		out.Encode(found)
	}
}
