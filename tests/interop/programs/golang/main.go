// franz-go or Sarama at the service of the tests.
//
//	interop franz-go|sarama HOST:PORT
//
// A line of JSON on standard input is a call, {"op": ..., "args": {...}}; its answer is a line on standard
// output, {"result": ...} or {"error": {"code", "message"}}. Calls are carried out one after the other; members
// of groups go on between them. The end of the input is the end of the program.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Record is a record on the wire between this program and the tests; bytes are base64 or null.
type Record struct {
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Timestamp int64    `json:"timestamp"`
	Key       []byte   `json:"key"`
	Value     []byte   `json:"value"`
	Headers   []Header `json:"headers"`
}

// Header is a pair, [name, value].
type Header struct {
	Name  string
	Value []byte
}

func (h Header) MarshalJSON() ([]byte, error) { return json.Marshal([]any{h.Name, h.Value}) }

func (h *Header) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&h.Name, &h.Value})
}

// Args are the arguments of all calls.
type Args struct {
	Topic      string            `json:"topic"`
	Topics     []string          `json:"topics"`
	Pattern    string            `json:"pattern"`
	Partition  int32             `json:"partition"`
	Partitions int32             `json:"partitions"`
	Count      int               `json:"count"`
	Offset     *int64            `json:"offset"`
	At         json.RawMessage   `json:"at"`
	Records    []Record          `json:"records"`
	Codec      string            `json:"codec"`
	Acks       *int              `json:"acks"`
	Idempotent bool              `json:"idempotent"`
	Config     map[string]string `json:"config"`
	Name       string            `json:"name"`
	Value      string            `json:"value"`
	Member     string            `json:"member"`
	Group      string            `json:"group"`
	Strategy   string            `json:"strategy"`
	Instance   string            `json:"instance"`
}

// acks is -1, for all, unless said otherwise.
func (a Args) acks() int {
	if a.Acks == nil {
		return -1
	}
	return *a.Acks
}

// at is a time in milliseconds, or one of the names.
func (a Args) at(names map[string]int64) (int64, error) {
	var name string
	if json.Unmarshal(a.At, &name) == nil {
		return names[name], nil
	}
	var ms int64
	return ms, json.Unmarshal(a.At, &ms)
}

// Operation carries out a call.
type Operation func(Args) (any, error)

// State is what a member has and has read.
type State struct {
	mutex      sync.Mutex
	partitions map[string]map[int32]bool
	records    []Record
	failure    string
}

func (s *State) gain(them map[string][]int32) { s.change(them, true) }
func (s *State) lose(them map[string][]int32) { s.change(them, false) }
func (s *State) fail(err error)               { s.with(func() { s.failure = err.Error() }) }
func (s *State) take(record Record)           { s.with(func() { s.records = append(s.records, record) }) }
func (s *State) with(change func())           { s.mutex.Lock(); defer s.mutex.Unlock(); change() }
func (s *State) replace(them map[string][]int32) {
	s.with(func() { s.partitions = nil })
	s.change(them, true)
}

func (s *State) change(them map[string][]int32, owned bool) {
	s.with(func() {
		if s.partitions == nil {
			s.partitions = map[string]map[int32]bool{}
		}
		for topic, partitions := range them {
			if s.partitions[topic] == nil {
				s.partitions[topic] = map[int32]bool{}
			}
			for _, partition := range partitions {
				s.partitions[topic][partition] = owned
			}
		}
	})
}

func (s *State) answer() (any, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	owned := [][]any{}
	for topic, partitions := range s.partitions {
		for partition, have := range partitions {
			if have {
				owned = append(owned, []any{topic, partition})
			}
		}
	}
	var failure any
	if s.failure != "" {
		failure = s.failure
	}
	records := append([]Record{}, s.records...)
	return map[string]any{"partitions": owned, "records": records, "failure": failure}, nil
}

// codeOf is Kafka's code of an error, or nil.
func codeOf(err error) any {
	var franz *kerr.Error
	if errors.As(err, &franz) {
		return franz.Code
	}
	var plain sarama.KError
	if errors.As(err, &plain) {
		return int16(plain)
	}
	return nil
}

func main() {
	flavour, bootstrap := os.Args[1], os.Args[2]
	operations := map[string]map[string]Operation{}
	switch flavour {
	case "franz-go":
		operations[flavour] = franzOperations(bootstrap)
	case "sarama":
		operations[flavour] = saramaOperations(bootstrap)
	}
	input := bufio.NewReader(os.Stdin)
	output := json.NewEncoder(os.Stdout)
	for {
		line, err := input.ReadBytes('\n')
		if err != nil {
			return
		}
		var call struct {
			Op   string `json:"op"`
			Args Args   `json:"args"`
		}
		var result any
		if err = json.Unmarshal(line, &call); err == nil {
			if operation, known := operations[flavour][call.Op]; known {
				result, err = operation(call.Args)
			} else {
				err = fmt.Errorf("%s has no operation %q", flavour, call.Op)
			}
		}
		if err != nil {
			code := map[string]any{"code": codeOf(err), "message": err.Error()}
			_ = output.Encode(map[string]any{"error": code})
		} else {
			_ = output.Encode(map[string]any{"result": result})
		}
	}
}
