// Reads the text of a picture with edge-ocr's service: go run . IMAGE [URL]
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

type answer struct {
	ErrorCode int    `json:"errorCode"`
	ErrorMsg  string `json:"errorMsg"`
	Result    struct {
		Texts []struct {
			Poly  [4][2]int `json:"poly"`
			Text  string    `json:"text"`
			Score float64   `json:"score"`
		} `json:"texts"`
		Image []byte `json:"image"` // encoding/json decodes Base64.
	} `json:"result"`
}

func read(image, url string) (*answer, error) {
	content, err := os.ReadFile(image)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string][]byte{"image": content})
	if err != nil {
		return nil, err
	}
	client := http.Client{Timeout: 2 * time.Minute}
	response, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var found answer
	if err := json.NewDecoder(response.Body).Decode(&found); err != nil {
		return nil, fmt.Errorf("%s: %w", response.Status, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%d: %s", found.ErrorCode, found.ErrorMsg)
	}
	return &found, nil
}

const usage = "usage: client IMAGE [URL]"

func run() error {
	for _, argument := range os.Args[1:] {
		if argument == "-h" || argument == "--help" {
			fmt.Println(usage)
			return nil
		}
	}
	if len(os.Args) < 2 || len(os.Args) > 3 {
		return fmt.Errorf(usage)
	}
	image, url := os.Args[1], "http://127.0.0.1:8080/ocr"
	if len(os.Args) == 3 {
		url = os.Args[2]
	}
	found, err := read(image, url)
	if err != nil {
		return err
	}
	for _, line := range found.Result.Texts {
		fmt.Printf("%.3f\t%s\n", line.Score, line.Text)
	}
	name := filepath.Base(image)
	saved := strings.TrimSuffix(name, filepath.Ext(name)) + "_ocr.jpg"
	if err := os.WriteFile(saved, found.Result.Image, 0o644); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "saved", saved)
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}
