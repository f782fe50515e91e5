// Stands for kaniko's executor where a test has none: the flags that kiln gives it, its lines, its exit codes. FROM scratch only; COPY puts a file of the
// context into the image's one layer, RUN is carried out by shell.go, in a process of its own, in whatever root it is started.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

type flags struct {
	context, destination, digestFile string
	// Of the context, or a path.
	dockerfile string
	noPush     bool
	buildArgs                        []string
	scheme                           string
}

func main() {
	if as, there := programs[filepath.Base(os.Args[0])]; there {
		as(os.Args[1:])
	}
	if len(os.Args) == 3 && os.Args[1] == "-c" {
		os.Exit(shell(os.Args[2]))
	}
	if len(os.Args) == 2 && os.Args[1] == "version" {
		fmt.Println("Kaniko version :  a stand-in")
		return
	}
	digest, err := build(flagsIn(os.Args[1:]))
	var step *exec.ExitError
	if errors.As(err, &step) {
		fmt.Fprintf(os.Stderr, "error building image: error building stage: failed to execute command: waiting for process to exit: %v\n", err)
		os.Exit(1)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	info("Pushed " + digest)
}

func info(line string) { fmt.Fprintf(os.Stderr, "time=\"\" level=info msg=%q\n", line) }

func flagsIn(args []string) flags {
	found := flags{scheme: "https"}
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "--context":
			found.context = strings.TrimPrefix(value, "tar://")
		case "--destination":
			found.destination = value
		case "--digest-file":
			found.digestFile = value
		case "--build-arg":
			found.buildArgs = append(found.buildArgs, value)
		case "--insecure-registry":
			found.scheme = "http"
		case "--dockerfile":
			found.dockerfile = value
		case "--no-push":
			found.noPush = true
		case "--push-retry", "--image-download-retry", "--log-format", "--log-timestamp", "--cache", "--force", "--skip-tls-verify-registry":
		default:
			fmt.Fprintln(os.Stderr, badStart("unknown flag: "+name))
			os.Exit(1)
		}
	}
	return found
}

// Followed by more lines than anybody keeps.
func badStart(what string) error {
	return errors.New("Error: " + what + "\nUsage:\n  executor [flags]\n" + strings.Repeat("  -f, --flag   what it means\n", 90))
}

func filesIn(path string) (map[string][]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for archive := tar.NewReader(plain); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			return nil, err
		}
	}
}

func build(wish flags) (string, error) {
	files, err := filesIn(wish.context)
	if err != nil {
		return "", badStart("error resolving source context: " + err.Error())
	}
	if len(files["Dockerfile"]) == 0 {
		return "", badStart("error resolving dockerfile path: please provide a valid path to a Dockerfile within the build context with --dockerfile")
	}
	dockerfile := files["Dockerfile"]
	if strings.HasPrefix(wish.dockerfile, "/") {
		if dockerfile, err = os.ReadFile(wish.dockerfile); err != nil {
			return "", badStart("error resolving dockerfile path: " + err.Error())
		}
	}
	registry, repository, tag := parts(wish)
	if !wish.noPush {
		if _, err := ask("GET", registry, "", "", nil, 200); err != nil {
			return "", fmt.Errorf("error checking push permissions -- make sure you entered the correct tag name: %v", err)
		}
	}
	var layer bytes.Buffer
	packed := tar.NewWriter(&layer)
	for _, line := range strings.Split(string(dockerfile), "\n") {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "ARG" || line == "FROM scratch":
		case words[0] == "COPY" && len(words) == 3:
			info(line)
			content := files[words[1]]
			packed.WriteHeader(&tar.Header{Name: strings.TrimPrefix(words[2], "/"), Mode: 0o644, Size: int64(len(content))})
			packed.Write(content)
			if err := intoRoot(words[2], content); err != nil {
				return "", err
			}
		case words[0] == "RUN":
			if err := run(strings.TrimSpace(strings.TrimPrefix(line, "RUN")), wish.buildArgs); err != nil {
				return "", err
			}
		default:
			return "", fmt.Errorf("error building image: parsing dockerfile: unknown instruction: %s", words[0])
		}
	}
	packed.Close()
	if wish.noPush {
		return "", nil
	}
	digest, err := push(registry+repository, tag, layer.Bytes())
	if err != nil {
		return "", fmt.Errorf("error pushing image: failed to push to destination %s: %v", wish.destination, err)
	}
	return digest, os.WriteFile(wish.digestFile, []byte(digest), 0o644)
}

// What is copied is there for those who come after it.
func intoRoot(path string, content []byte) error {
	if strings.HasSuffix(path, "/") {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o755)
}

func run(line string, buildArgs []string) error {
	info("Running: [/bin/sh -c " + line + "]")
	child := exec.Command("/proc/self/exe", "-c", line)
	child.Env = append(os.Environ(), buildArgs...)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	return child.Run()
}

// `host:port/repository:tag` → the registry's address, the repository, the tag.
func parts(wish flags) (string, string, string) {
	if wish.destination == "" {
		return "", "", ""
	}
	host, rest, _ := strings.Cut(wish.destination, "/")
	at := strings.LastIndex(rest, ":")
	return wish.scheme + "://" + host + "/v2/", rest[:at], rest[at+1:]
}

func push(at, tag string, layer []byte) (string, error) {
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	writer.Write(layer)
	writer.Close()
	config := inJSON(map[string]any{"architecture": "amd64", "os": "linux", "config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": []string{sha(layer)}}})
	for _, blob := range [][]byte{packed.Bytes(), config} {
		begun, err := ask("POST", at+"/blobs/uploads/", "", "", nil, 202)
		if err != nil {
			return "", err
		}
		to := begun.Header.Get("Location")
		if _, err := ask("PUT", to, "&digest="+sha(blob), "application/octet-stream", blob, 201); err != nil {
			return "", err
		}
	}
	const docker = "application/vnd.docker."
	described := func(media string, bytes []byte) map[string]any {
		return map[string]any{"mediaType": docker + media, "digest": sha(bytes), "size": len(bytes)}
	}
	kind := docker + "distribution.manifest.v2+json"
	manifest := inJSON(map[string]any{
		"schemaVersion": 2, "mediaType": kind, "config": described("container.image.v1+json", config), "layers": []any{described("image.rootfs.diff.tar.gzip", packed.Bytes())},
	})
	_, err := ask("PUT", at+"/manifests/"+tag, "", kind, manifest, 201)
	return sha(manifest), err
}

func ask(method, url, more, media string, body []byte, wanted int) (*http.Response, error) {
	request, err := http.NewRequest(method, url+more, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", media)
	if login := credentials(request.URL.Host); login != "" {
		request.Header.Set("Authorization", "Basic "+login)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode == 401 {
		return nil, errors.New("UNAUTHORIZED: authentication required")
	}
	if answer.StatusCode != wanted {
		return nil, fmt.Errorf("%s %s: %s", method, url, answer.Status)
	}
	return answer, nil
}

func credentials(host string) string {
	text, _ := os.ReadFile(os.Getenv("DOCKER_CONFIG") + "/config.json")
	var file struct {
		Auths map[string]struct{ Auth string }
	}
	json.Unmarshal(text, &file)
	login := file.Auths[host].Auth
	if _, err := base64.StdEncoding.DecodeString(login); err != nil {
		return ""
	}
	return login
}

func inJSON(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return text
}

func sha(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }
