package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// envelope is ringlog's part of the value. Members that are not named here are no error: new ones may come.
type envelope struct {
	EventID    string                     `json:"event_id"`
	ReceivedAt int64                      `json:"received_at"` // microseconds since the epoch
	SessionID  string                     `json:"session_id"`
	AgentID    *string                    `json:"agent_id"`
	Recovered  bool                       `json:"recovered"`
	Body       map[string]json.RawMessage `json:"body"` // the provider's: any member may be absent, null or of another type
	Sealed     json.RawMessage            `json:"sealed"`
}

// call is what this program wants of an event. A nil is not known, which is something else than zero.
type call struct {
	receivedAt time.Time
	session    string
	agent      *string
	status     *string
	duration   *Seconds
	cost       *Micros
	sealed     bool
}

func decode(value []byte) (*call, error) {
	var event envelope
	if err := json.Unmarshal(value, &event); err != nil {
		return nil, err
	}
	if event.EventID == "" || event.SessionID == "" {
		return nil, errors.New("it names no session")
	}
	return &call{
		receivedAt: time.UnixMicro(event.ReceivedAt).UTC(),
		session:    event.SessionID,
		agent:      event.AgentID,
		status:     optional[string](event.Body["call_status"]),
		duration:   seconds(event.Body["duration"]),
		cost:       costOf(event.Body["cost_breakdown"]),
		sealed:     event.Body == nil && event.Sealed != nil,
	}, nil
}

// optional reads one member by itself: that it is of another type than usual costs this member, and no other.
func optional[T any](raw json.RawMessage) *T {
	var value *T
	if json.Unmarshal(raw, &value) != nil {
		return nil
	}
	return value
}

// Seconds is a duration, in milliseconds.
type Seconds int64

func seconds(raw json.RawMessage) *Seconds {
	found := optional[float64](raw)
	if found == nil || *found < 0 || *found >= 1e9 {
		return nil // a duration of thirty years is none
	}
	duration := Seconds(math.RoundToEven(*found * 1000))
	return &duration
}

func (s Seconds) String() string {
	return strconv.FormatFloat(float64(s)/1000, 'f', -1, 64) + "s"
}

func (c *call) String() string {
	body := fmt.Sprintf("status=%s duration=%s cost=%s", known(c.status), known(c.duration), known(c.cost))
	if c.sealed {
		body = "sealed"
	}
	return fmt.Sprintf("%s session=%s agent=%s %s", c.receivedAt.Format(time.RFC3339), c.session, known(c.agent), body)
}

func known[T any](value *T) string {
	if value == nil {
		return "unknown"
	}
	return fmt.Sprint(*value)
}
