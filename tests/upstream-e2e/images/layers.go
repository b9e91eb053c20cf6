package main

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The layer of a directory, owned by root.
func tree(root string) layer {
	return layerOf(func(archive *tar.Writer) {
		check(filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
			if err != nil || path == root {
				return err
			}
			target := ""
			if info.Mode()&os.ModeSymlink != 0 {
				if target, err = os.Readlink(path); err != nil {
					return err
				}
			}
			header, err := tar.FileInfoHeader(info, target)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			add(archive, tar.Header{Typeflag: header.Typeflag, Name: name, Linkname: target, Mode: header.Mode}, content(path, info))
			return nil
		}))
	})
}

func content(path string, info os.FileInfo) []byte {
	if !info.Mode().IsRegular() {
		return nil
	}
	return read(path)
}

// The program that the pods of the tests run, with what its own image has beside it.
func agnhost(program, certificates string) layer {
	return layerOf(func(archive *tar.Writer) {
		file(archive, "agnhost", read(program), 0o755)
		link(archive, "agnhost-2", "agnhost")
		for _, name := range []string{"localhost.crt", "localhost.key"} {
			file(archive, name, read(filepath.Join(certificates, name)), 0o644)
		}
		directory(archive, "uploads", 0o755)
	})
}

// The page that tests look for.
func page() layer {
	return layerOf(func(archive *tar.Writer) {
		file(archive, "index.html", []byte("<title>Welcome to nginx!</title>\nIt works!\n"), 0o644)
	})
}

// One program, called by its own name.
func program(path string) layer {
	return layerOf(func(archive *tar.Writer) { file(archive, filepath.Base(path), read(path), 0o755) })
}

// Busybox by all its names.
func busybox(path string) layer {
	names, err := exec.Command(path, "--list").Output()
	check(err)
	return layerOf(func(archive *tar.Writer) {
		file(archive, "bin/busybox", read(path), 0o755)
		for _, name := range strings.Fields(string(names)) {
			if name != "busybox" {
				link(archive, "bin/"+name, "busybox")
			}
		}
		file(archive, "etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"), 0o644)
		file(archive, "etc/group", []byte("root:x:0:\nnobody:x:65534:\n"), 0o644)
		directory(archive, "tmp", 0o1777)
		for _, name := range []string{"home", "root", "usr", "var"} {
			directory(archive, name, 0o755)
		}
	})
}

func layerOf(fill func(*tar.Writer)) layer {
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	fill(archive)
	check(archive.Close())
	return layer{buffer.Bytes()}
}

func file(archive *tar.Writer, name string, content []byte, mode int64) {
	add(archive, tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, content)
}

func link(archive *tar.Writer, name, target string) {
	add(archive, tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, nil)
}

func directory(archive *tar.Writer, name string, mode int64) {
	add(archive, tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}, nil)
}

func add(archive *tar.Writer, header tar.Header, content []byte) {
	header.Size = int64(len(content))
	check(archive.WriteHeader(&header))
	_, err := archive.Write(content)
	check(err)
}

func read(path string) []byte {
	content, err := os.ReadFile(path)
	check(err)
	return content
}
