// goflow2 as a peer of the benchmark: its own decoders and producer, from memory to memory, on one CPU.
//
// goflow2-for-bench FILE SECONDS: FILE is datagrams, each behind its length (four bytes, big-endian). The first pass over
// them, in which templates are learned, is not counted. Prints {"flows": …, "seconds": …, "cpu_seconds": …}.
package main

import (
	"encoding/binary"
	"encoding/json"
	"log"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
	"github.com/netsampler/goflow2/v2/producer/proto"
	"github.com/netsampler/goflow2/v2/utils"
)

// counting is a format that writes nothing down.
type counting struct{ flows int }

func (c *counting) Format(any) ([]byte, []byte, error) {
	c.flows++
	return nil, nil, nil
}

type told struct {
	Flows      int     `json:"flows"`
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"`
}

func main() {
	runtime.GOMAXPROCS(1)
	datagrams := read(os.Args[1])
	seconds, err := strconv.ParseFloat(os.Args[2], 64)
	check(err)

	config := &protoproducer.ProducerConfig{}
	compiled, err := config.Compile()
	check(err)
	producer, err := protoproducer.CreateProtoProducer(compiled, protoproducer.CreateSamplingSystem)
	check(err)
	counted := &counting{}
	pipe := utils.NewFlowPipe(&utils.PipeConfig{
		Format: counted, Producer: producer, NetFlowTemplater: func(string) netflow.NetFlowTemplateSystem {
			return netflow.CreateTemplateSystem()
		},
	})
	message := utils.Message{Src: netip.MustParseAddrPort("192.0.2.1:2055"), Received: time.Now()}
	pass := func() {
		for _, payload := range datagrams {
			message.Payload = payload
			check(pipe.DecodeFlow(&message))
		}
	}

	pass()
	counted.flows = 0
	began, spent := time.Now(), cpu()
	for time.Since(began).Seconds() < seconds {
		pass()
	}
	check(json.NewEncoder(os.Stdout).Encode(told{counted.flows, time.Since(began).Seconds(), cpu() - spent}))
}

func read(path string) [][]byte {
	content, err := os.ReadFile(path)
	check(err)
	var datagrams [][]byte
	for len(content) > 0 {
		length := 4 + binary.BigEndian.Uint32(content)
		datagrams = append(datagrams, content[4:length])
		content = content[length:]
	}
	return datagrams
}

func cpu() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
