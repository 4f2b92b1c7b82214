// Prints every ended call, read from the topic by the published schema (docs/events.md) alone.
//
//	go run . -brokers localhost:9092
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	endedType = "ringlog.call.ended"

	// A repetition mostly comes soon: a retry of the provider's, or of a producer's after a failure. How many ids are
	// remembered bounds the memory, and a restart forgets them. Who writes into a database notes the id there, in the
	// transaction of the effect, and then a repetition never counts.
	rememberedIDs = 100_000

	commitDeadline = 10 * time.Second
)

func main() {
	log.SetFlags(0)
	brokers := flag.String("brokers", "localhost:9092", "Kafka's addresses, separated by commas")
	topic := flag.String("topic", "calls.ended", "the topic, with RINGLOG_TOPIC_PREFIX before it")
	group := flag.String("group", "example-05", "the consumer group; another one begins at the beginning")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(*brokers, ",")...),
		kgo.ConsumeTopics(*topic),
		kgo.ConsumerGroup(*group),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), // a group that is new has everything before it
		kgo.DisableAutoCommit(),                           // an event is done when it is printed, not when it came
		kgo.BlockRebalanceOnPoll(),                        // what we work on stays ours until it is committed
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.CloseAllowingRebalance() // Close would wait for the work that was just broken off
	if err := read(ctx, client); err != nil {
		log.Print(err)
		os.Exit(1) // without leaving the group in order: it learns it by itself
	}
}

// read prints until ctx is done; what is printed is committed then.
func read(ctx context.Context, client *kgo.Client) error {
	seen := newSeen(rememberedIDs)
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		for _, failed := range fetches.Errors() {
			return fmt.Errorf("%s/%d can't be read: %w", failed.Topic, failed.Partition, failed.Err)
		}
		fetches.EachRecord(func(record *kgo.Record) { handle(record, seen) })
		if err := commit(client); err != nil {
			return fmt.Errorf("the offsets can't be committed: %w", err)
		}
		client.AllowRebalance()
	}
}

// commit also does it when we are asked to stop: else what is printed would be printed again.
func commit(client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), commitDeadline)
	defer cancel()
	return client.CommitUncommittedOffsets(ctx)
}

func handle(record *kgo.Record, seen *seen) {
	if header(record, "ce_type") != endedType {
		return // of a type that was not known when this was written
	}
	if !seen.add(header(record, "ce_id")) {
		return
	}
	call, err := decode(record.Value)
	if err != nil {
		// It will be no better tomorrow, and whoever stops here reads nothing any more.
		log.Printf("%s/%d/%d is no ended call: %v", record.Topic, record.Partition, record.Offset, err)
		return
	}
	fmt.Println(call)
}

// header is the last one of that name, as text.
func header(record *kgo.Record, name string) string {
	value := ""
	for _, header := range record.Headers {
		if header.Key == name {
			value = string(header.Value)
		}
	}
	return value
}
