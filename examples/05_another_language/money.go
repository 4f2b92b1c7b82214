package main

import (
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

// Micros is money: integers of micro-credits, a millionth of the provider's credit.
type Micros int64

const (
	maxMicros  = 1_000_000_000_000_000 // a billion credits: what is more is a mistake of the sender's
	maxLiteral = 64                    // characters; a longer one is no price
	maxPower   = 100
)

var literal = regexp.MustCompile(`^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]+))?$`)

// costOf adds up a cost_breakdown. It is unknown when there is none, or when one of its items has no price: a part of a
// bill is no bill. An empty one is known, and zero.
func costOf(breakdown json.RawMessage) *Micros {
	items := optional[[]struct {
		Credit json.RawMessage `json:"credit"`
	}](breakdown)
	if items == nil {
		return nil
	}
	var total Micros
	for _, item := range *items {
		micros, ok := microsOf(item.Credit)
		if !ok {
			return nil
		}
		total += micros
	}
	return &total
}

// microsOf reads a JSON number, or one in a string, by its decimal text: a float would be off, and sums of floats depend
// on their order. Rounded half to even, as ringlog's own books do.
func microsOf(raw json.RawMessage) (Micros, bool) {
	text := string(raw)
	if quoted := optional[string](raw); quoted != nil {
		text = strings.TrimSpace(*quoted)
	}
	parts := literal.FindStringSubmatch(text)
	if parts == nil || len(text) > maxLiteral {
		return 0, false
	}
	if parts[1] != "" {
		if power, err := strconv.Atoi(parts[1]); err != nil || power < -maxPower || power > maxPower {
			return 0, false
		}
	}
	amount, ok := new(big.Rat).SetString(text)
	if !ok {
		return 0, false
	}
	amount.Mul(amount, big.NewRat(1_000_000, 1))
	whole, rest := new(big.Int).DivMod(amount.Num(), amount.Denom(), new(big.Int))
	half := rest.Lsh(rest, 1).Cmp(amount.Denom())
	if half > 0 || (half == 0 && whole.Bit(0) == 1) {
		whole.Add(whole, big.NewInt(1))
	}
	if whole.CmpAbs(big.NewInt(maxMicros)) > 0 {
		return 0, false
	}
	return Micros(whole.Int64()), true
}

func (m Micros) String() string {
	sign, rest := "", int64(m)
	if rest < 0 {
		sign, rest = "-", -rest
	}
	text := fmt.Sprintf("%s%d.%06d", sign, rest/1_000_000, rest%1_000_000)
	return strings.TrimRight(strings.TrimRight(text, "0"), ".")
}
