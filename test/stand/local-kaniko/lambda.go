// Stands for what an image has for a lambda to be started by (env, sh, python3), and for a lambda: it answers with what it finds where it runs.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

// By the name that each is called.
var programs map[string]func(args []string)

func init() {
	programs = map[string]func([]string){"env": env, "sh": sh, "python3": python}
}

// `env NAME=value… program args…`
func env(args []string) {
	for len(args) > 0 && strings.Contains(args[0], "=") {
		name, value, _ := strings.Cut(args[0], "=")
		os.Setenv(name, value)
		args = args[1:]
	}
	become(args)
}

// `sh -c 'cd <folder> && exec "$@"' name program args…`, or one of the probes.
func sh(args []string) {
	if len(args) == 2 && args[0] == "-c" {
		os.Exit(shell(args[1]))
	}
	folder, rest, _ := strings.Cut(strings.TrimPrefix(args[1], "cd "), " && ")
	if rest != `exec "$@"` {
		fail("no such line: " + args[1])
	}
	if err := os.Chdir(folder); err != nil {
		fail(err.Error())
	}
	become(args[3:])
}

func become(args []string) {
	path, err := exec.LookPath(args[0])
	if err == nil {
		err = syscall.Exec(path, args, os.Environ())
	}
	fail(args[0] + ": " + err.Error())
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(127)
}

func python(args []string) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	go func() { <-asked; fmt.Println("asked to end"); os.Exit(0) }()
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) { json.NewEncoder(answer).Encode(found(args)) })
	fmt.Println("serves")
	fail(http.ListenAndServe(os.Getenv("LAMBDA_HOST")+":"+os.Getenv("LAMBDA_PORT"), nil).Error())
}

func found(args []string) map[string]any {
	cwd, _ := os.Getwd()
	config, _ := os.ReadFile(os.Getenv("LAMBDA_USER_CONFIG"))
	made, _ := os.ReadFile("/opt/made")
	written := map[string]string{}
	for _, path := range []string{"/lambda/x", "/opt/made", "/kaniko/x", "/tmp/x"} {
		written[path] = "written"
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			written[path] = err.Error()
		}
	}
	entries, _ := os.ReadDir("/kaniko")
	names := []string{}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	status, _ := os.ReadFile("/proc/self/status")
	capabilities := ""
	for _, line := range strings.Split(string(status), "\n") {
		if name, value, _ := strings.Cut(line, ":"); name == "CapEff" {
			capabilities = strings.TrimSpace(value)
		}
	}
	_, host := os.Stat("/proc/1/root/work")
	return map[string]any{
		"args": args, "cwd": cwd, "config": string(config), "made": string(made), "written": written, "kaniko": names, "capabilities": capabilities, "pid": os.Getpid(),
		"colour": os.Getenv("COLOUR"), "home": os.Getenv("HOME"), "path": os.Getenv("PATH"), "hostIsThere": host == nil,
	}
}
