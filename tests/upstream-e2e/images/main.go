// Writes the images that the tests of Kubernetes' own suites start, as one OCI archive that containerd imports, without a registry: under
// upstream's names, made from the same module and from tools of this machine's distribution.
//
//	images PROGRAMS TOOLS CERTIFICATES OUTPUT [NAME …]
//
// PROGRAMS is the directory with agnhost, TOOLS a root file system with the tools that agnhost's own image has, CERTIFICATES
// agnhost's directory porter; NAMEs are further ones of agnhost's image, as other suites have them.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	upstream "k8s.io/kubernetes/test/utils/image"
)

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"
	path         = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// A tar archive.
type layer struct{ content []byte }

// What is executed, in the words of image-spec.
type executed struct {
	Env        []string `json:",omitempty"`
	Entrypoint []string `json:",omitempty"`
	Cmd        []string `json:",omitempty"`
	WorkingDir string   `json:",omitempty"`
	User       string   `json:",omitempty"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func main() {
	if len(os.Args) < 5 {
		fail("images PROGRAMS TOOLS CERTIFICATES OUTPUT [NAME …]")
	}
	programs, tools, certificates, output := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	name := upstream.GetE2EImage
	out := archive{blobs: map[string][]byte{}}

	// Two large layers, which most images share.
	base := []layer{tree(tools), agnhost(filepath.Join(programs, "agnhost"), certificates)}
	out.image(append(os.Args[5:], name(upstream.Agnhost)), base,
		executed{Env: []string{path}, Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}})
	out.image([]string{name(upstream.JessieDnsutils), name(upstream.DistrolessIptables)}, base,
		executed{Env: []string{path}, Cmd: []string{"/bin/bash"}})
	// It does nothing, too.
	out.image([]string{name(upstream.Pause)}, base, executed{Env: []string{path}, Entrypoint: []string{"/agnhost", "pause"}, User: "65535:65535"})
	// Stand-ins: a web server on port 80 that answers with a page.
	out.image([]string{name(upstream.Nginx), name(upstream.NginxNew), name(upstream.Httpd), name(upstream.HttpdNew)}, append(base, page()),
		executed{Env: []string{path}, Entrypoint: []string{"/agnhost", "test-webserver"}, WorkingDir: "/"})
	out.image([]string{name(upstream.RegressionIssue74839)}, []layer{program(filepath.Join(programs, "regression-issue-74839"))},
		executed{Env: []string{path}, Entrypoint: []string{"/regression-issue-74839"}})
	out.image([]string{name(upstream.BusyBox)}, []layer{busybox("/bin/busybox")}, executed{Env: []string{path}, Cmd: []string{"sh"}})
	check(os.WriteFile(output, out.layout(), 0o644))
}

// An image layout (image-spec, image-layout.md).
type archive struct {
	blobs     map[string][]byte
	order     []string
	manifests []descriptor
}

func (a *archive) put(mediaType string, content []byte) descriptor {
	sum := sha256.Sum256(content)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	if _, there := a.blobs[digest]; !there {
		a.blobs[digest] = content
		a.order = append(a.order, digest)
	}
	return descriptor{MediaType: mediaType, Digest: digest, Size: len(content)}
}

func (a *archive) image(names []string, layers []layer, run executed) {
	var of []descriptor
	var digests []string
	for _, it := range layers {
		put := a.put(layerType, it.content)
		of, digests = append(of, put), append(digests, put.Digest)
	}
	config := a.put(configType, encode(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": run,
		"rootfs": map[string]any{"type": "layers", "diff_ids": digests},
	}))
	manifest := a.put(manifestType, encode(map[string]any{"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": of}))
	for _, name := range names {
		manifest.Annotations = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
		a.manifests = append(a.manifests, manifest)
	}
}

func (a *archive) layout() []byte {
	var buffer bytes.Buffer
	out := tar.NewWriter(&buffer)
	file(out, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
	file(out, "index.json", encode(map[string]any{"schemaVersion": 2, "manifests": a.manifests}), 0o644)
	for _, digest := range a.order {
		file(out, "blobs/sha256/"+digest[len("sha256:"):], a.blobs[digest], 0o644)
	}
	check(out.Close())
	return buffer.Bytes()
}

func encode(value any) []byte {
	text, err := json.Marshal(value)
	check(err)
	return text
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, "images: "+why)
	os.Exit(1)
}
