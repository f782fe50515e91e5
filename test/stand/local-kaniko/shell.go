// Stands for a shell in images of tests: `-c 'probe <what> …'` tries one thing from inside a build, and says what came of it.
// A static program, so that it runs in a root that holds nothing else; it is built together with executor.go, which is the other half of it.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
)

type probe func(args []string) error

var probes map[string]probe

func init() {
	probes = map[string]probe{
		"say":  func(words []string) error { say(strings.Join(words, " ")); return nil },
		"fail": func([]string) error { os.Exit(3); return nil },
		"read": each(readIt),
		"list": each(listIt),
		"write": func(args []string) error {
			return os.WriteFile(args[0], []byte(strings.Join(args[1:], " ")+"\n"), 0o644)
		},
		"chmod":     each(chmodIt),
		"mknod":     each(func(path string) error { return syscall.Mknod(path, syscall.S_IFBLK|0o600, 8<<8) }),
		"mount":     each(func(path string) error { return syscall.Mount("none", path, "tmpfs", 0, "") }),
		"remount":   each(func(path string) error { return syscall.Mount("", path, "", syscall.MS_REMOUNT|syscall.MS_BIND, "") }),
		"umount":    each(func(path string) error { return syscall.Unmount(path, syscall.MNT_DETACH) }),
		"hostname":  each(func(name string) error { return syscall.Sethostname([]byte(name)) }),
		"kill":      killAll,
		"climb":     climb,
		"status":    status,
		"processes": showProcesses,
		"files":     openFiles,
		"daemon":    daemon,
		"stay":      stay,
	}
}

func say(line string) { fmt.Println("probe " + line) }

// Each word of the line by itself; what it says is `<word>: done`, or why not.
func each(act func(string) error) probe {
	return func(args []string) error {
		for _, arg := range args {
			if err := act(arg); err != nil {
				say(arg + ": " + err.Error())
			} else {
				say(arg + ": done")
			}
		}
		return nil
	}
}

// To the mode that it has: where that may be done, others could be set.
func chmodIt(path string) error {
	found, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Chmod(path, found.Mode())
}

func readIt(path string) error {
	text, err := os.ReadFile(path)
	if err == nil {
		say(path + " holds " + strings.Join(strings.FieldsFunc(string(text), func(one rune) bool { return one <= ' ' }), " "))
	}
	return err
}

func listIt(path string) error {
	entries, err := os.ReadDir(path)
	names := []string{}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if err == nil {
		say(path + " lists " + strings.Join(names, " "))
	}
	return err
}

// The way out of a chroot for who may make one: a folder stays open above the new root.
func climb([]string) error {
	above, err := os.Open("/")
	if err != nil {
		return err
	}
	if err := os.MkdirAll("/climb", 0o755); err != nil {
		return err
	}
	if err := syscall.Chroot("/climb"); err != nil {
		return err
	}
	if err := above.Chdir(); err != nil {
		return err
	}
	for range 64 {
		if err := os.Chdir(".."); err != nil {
			return err
		}
	}
	if err := syscall.Chroot("."); err != nil {
		return err
	}
	return listIt("/")
}

func status([]string) error {
	text, err := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "Cap") || strings.HasPrefix(line, "NoNewPrivs") || strings.HasPrefix(line, "Uid") {
			say("status " + strings.Join(strings.Fields(line), " "))
		}
	}
	return err
}

func showProcesses([]string) error {
	found, err := filepath.Glob("/proc/[0-9]*")
	sort.Strings(found)
	for _, path := range found {
		name, _ := os.ReadFile(path + "/comm")
		say("process " + filepath.Base(path) + " " + strings.TrimSpace(string(name)))
	}
	return err
}

// What is open in the first process of the namespace and in this one, and where both are.
func openFiles([]string) error {
	for _, pid := range []string{"1", "self"} {
		found, err := filepath.Glob("/proc/" + pid + "/fd/*")
		if err != nil {
			return err
		}
		spaces, _ := filepath.Glob("/proc/" + pid + "/ns/*")
		for _, path := range append(append(found, spaces...), "/proc/"+pid+"/root", "/proc/"+pid+"/cwd") {
			if to, err := os.Readlink(path); err == nil {
				say("file " + path + " is " + to)
			}
		}
	}
	return nil
}

// Whoever can be reached. Where that is the whole machine it does nothing, and says so.
func killAll([]string) error {
	first, err := os.ReadFile("/proc/1/comm")
	if err != nil || strings.TrimSpace(string(first)) != "executor" {
		return errors.New("the machine's own processes are within reach")
	}
	if err := syscall.Kill(-1, syscall.SIGKILL); err != nil {
		return err
	}
	say("kill: done")
	return nil
}

// Leaves a process behind that has its own session and holds the output.
func daemon(words []string) error {
	child := exec.Command("/proc/self/exe", "-c", "probe stay "+strings.Join(words, " "))
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err := child.Start()
	if err == nil {
		say("daemon runs")
	}
	return err
}

// For ever, deaf to all that can be ignored. With `port <n>` it holds a connection to that port of the machine: its end tells of this process's end.
func stay(words []string) error {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	if len(words) == 2 && words[0] == "port" {
		if _, err := net.Dial("tcp", "127.0.0.1:"+words[1]); err != nil {
			return err
		}
	}
	say("stays")
	for {
		syscall.Pause()
	}
}

// Lines of a RUN: steps are separated by `&&`, as in a real shell; the first that is no probe is an error.
func shell(line string) int {
	for _, step := range strings.Split(os.ExpandEnv(line), "&&") {
		words := strings.Fields(step)
		if strings.TrimSpace(step) == "env -0 > /kaniko/environment" {
			if err := os.WriteFile("/kaniko/environment", []byte(strings.Join(os.Environ(), "\x00")+"\x00"), 0o644); err != nil {
				say(err.Error())
				return 2
			}
			continue
		}
		if len(words) < 2 || words[0] != "probe" || probes[words[1]] == nil {
			fmt.Fprintln(os.Stderr, "no such probe: "+step)
			return 127
		}
		if err := probes[words[1]](words[2:]); err != nil {
			say(words[1] + ": " + err.Error())
		}
	}
	return 0
}
