package main

import "testing"

func TestMoneyIsReadByItsDecimalText(t *testing.T) {
	for text, want := range map[string]string{
		`0.0043`: "0.0043", `"0.0043"`: "0.0043", `4.3e-3`: "0.0043", `-1`: "-1", `1e2`: "100", `100000`: "100000",
		`0.0000005`: "0", `0.0000015`: "0.000002", `-0.0000015`: "-0.000002", `0.00000050001`: "0.000001",
	} {
		if micros, ok := microsOf([]byte(text)); !ok || micros.String() != want {
			t.Errorf("%s is %v (%v), not %s", text, micros, ok, want)
		}
	}
	for _, text := range []string{`null`, ``, `"NaN"`, `true`, `{}`, `"1/3"`, `"0x10"`, `"1_000"`, `1e999999999`, `1e15`} {
		if micros, ok := microsOf([]byte(text)); ok {
			t.Errorf("%s is no money, and was read as %v", text, micros)
		}
	}
}

func TestAnUnknownCostIsNotZero(t *testing.T) {
	for _, text := range []string{``, `null`, `"free"`, `[{"credit": 1}, {"credit": null}]`, `[{}]`} {
		if cost := costOf([]byte(text)); cost != nil {
			t.Errorf("%q is unknown, and was read as %v", text, *cost)
		}
	}
	if cost := costOf([]byte(`[]`)); cost == nil || *cost != 0 {
		t.Error("nothing to pay for is a known cost of zero")
	}
}

func TestEachMemberIsReadByItself(t *testing.T) {
	found, err := decode([]byte(`{"event_id": "e", "session_id": "s", "agent_id": null, "tomorrow": [1],
		"body": {"duration": "long", "call_status": 7, "cost_breakdown": [{"credit": 0.1}, {"credit": 0.2}], "new": {}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := "1970-01-01T00:00:00Z session=s agent=unknown status=unknown duration=unknown cost=0.3"
	if found.String() != want {
		t.Errorf("%s\nis not\n%s", found, want)
	}
}

func TestASealedCallIsStillACall(t *testing.T) {
	found, err := decode([]byte(`{"event_id": "e", "session_id": "s", "sealed": "A1B2"}`))
	if err != nil || found.String() != "1970-01-01T00:00:00Z session=s agent=unknown sealed" {
		t.Errorf("%v, %v", found, err)
	}
}

func TestOnlyTheLastIDsAreRemembered(t *testing.T) {
	seen := newSeen(2)
	for _, step := range []struct {
		id  string
		new bool
	}{{"a", true}, {"b", true}, {"a", false}, {"c", true}, {"a", true}} {
		if seen.add(step.id) != step.new {
			t.Errorf("%s: new is not %v", step.id, step.new)
		}
	}
}
