// Reads the text of a picture with edge-ocr's service: go run . [--words] IMAGE [URL]
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

type text struct {
	Poly  [4][2]int `json:"poly"`
	Text  string    `json:"text"`
	Score float64   `json:"score"`
	Words []text    `json:"words"`
}

type answer struct {
	ErrorCode int    `json:"errorCode"`
	ErrorMsg  string `json:"errorMsg"`
	Result    struct {
		Texts []text `json:"texts"`
		Image []byte `json:"image"` // encoding/json decodes Base64.
	} `json:"result"`
}

func read(image, url string, words bool) (*answer, error) {
	content, err := os.ReadFile(image)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{
		"image":           content,
		"inferenceParams": map[string]bool{"returnWordBox": words},
	})
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

const usage = "usage: client [--words] IMAGE [URL]"

func run() error {
	var given []string
	words := false
	for _, argument := range os.Args[1:] {
		switch argument {
		case "-h", "--help":
			fmt.Println(usage)
			return nil
		case "--words":
			words = true
		default:
			given = append(given, argument)
		}
	}
	if len(given) < 1 || len(given) > 2 {
		return fmt.Errorf(usage)
	}
	image, url := given[0], "http://127.0.0.1:8080/ocr"
	if len(given) == 2 {
		url = given[1]
	}
	found, err := read(image, url, words)
	if err != nil {
		return err
	}
	for _, line := range found.Result.Texts {
		fmt.Printf("%.3f\t%s\n", line.Score, line.Text)
		for _, word := range line.Words {
			fmt.Printf("\t%.3f\t%s\t", word.Score, word.Text)
			for index, corner := range word.Poly {
				fmt.Printf("%d,%d%s", corner[0], corner[1], [...]string{" ", " ", " ", "\n"}[index])
			}
		}
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
