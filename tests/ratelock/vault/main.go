// Vault as ratelock's tests need it: its own core, transit engine and HTTP API, initialised and unsealed, with all that it
// stores in memory. What `vault server -dev` is, without the engines and clouds that take half an hour to build.
//
// Prints one line of JSON: {"address": URL, "root_token": ..., "unseal_key": base64}. Ends with its standard input.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

type told struct {
	Address   string `json:"address"`
	RootToken string `json:"root_token"`
	UnsealKey []byte `json:"unseal_key"` // encoding/json writes base64
}

// builtin is what Vault has by itself: the transit engine.
type builtin struct{}

func (builtin) Contains(name string, kind consts.PluginType) bool {
	return name == "transit" && kind == consts.PluginTypeSecrets
}

func (b builtin) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	return func() (any, error) { return logical.Factory(transit.Factory), nil }, b.Contains(name, kind)
}

func (b builtin) Keys(kind consts.PluginType) []string {
	if b.Contains("transit", kind) {
		return []string{"transit"}
	}
	return nil
}

func (b builtin) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, b.Contains(name, kind)
}

func main() {
	logger := hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Warn})
	store, err := inmem.NewInmem(nil, logger)
	check(err)
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:        store,
		LogicalBackends: map[string]logical.Factory{"transit": transit.Factory},
		BuiltinRegistry: builtin{},
		Logger:          logger,
		DisableMlock:    true,
	})
	check(err)
	rootToken, unsealKey := unseal(core)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core})
	go func() { check(http.Serve(listener, handler)) }()
	check(json.NewEncoder(os.Stdout).Encode(told{"http://" + listener.Addr().String(), rootToken, unsealKey}))

	// Whoever started it has gone.
	_, err = io.Copy(io.Discard, os.Stdin)
	check(err)
}

func unseal(core *vault.Core) (string, []byte) {
	one := &vault.SealConfig{Type: "shamir", SecretShares: 1, SecretThreshold: 1, StoredShares: 1}
	made, err := core.Initialize(context.Background(), &vault.InitParams{BarrierConfig: one})
	check(err)
	key := append([]byte(nil), made.SecretShares[0]...)
	// It overwrites the share that it is given.
	unsealed, err := core.Unseal(made.SecretShares[0])
	check(err)
	if !unsealed {
		log.Fatal("Vault is still sealed")
	}
	return made.RootToken, key
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
