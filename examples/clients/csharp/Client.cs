// Reads the text of a picture with edge-ocr's service: Client [--words] IMAGE [URL]
// Builds with .NET 8 (dotnet run) and with Mono (mcs -r:System.Net.Http.dll -r:System.Runtime.Serialization.dll Client.cs).

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Net.Http;
using System.Runtime.Serialization;
using System.Runtime.Serialization.Json;
using System.Text;

[DataContract]
public class Word
{
    [DataMember(Name = "poly")] public int[][] Poly;
    [DataMember(Name = "text")] public string Text;
    [DataMember(Name = "score")] public double Score;
}

[DataContract]
public class Line
{
    [DataMember(Name = "poly")] public int[][] Poly;
    [DataMember(Name = "text")] public string Text;
    [DataMember(Name = "score")] public double Score;
    [DataMember(Name = "words")] public Word[] Words;
}

[DataContract]
public class Result
{
    [DataMember(Name = "texts")] public Line[] Texts;
    [DataMember(Name = "image")] public string Image;
}

[DataContract]
public class Answer
{
    [DataMember(Name = "errorCode")] public int ErrorCode;
    [DataMember(Name = "errorMsg")] public string ErrorMsg;
    [DataMember(Name = "result")] public Result Result;
}

public static class Client
{
    public static int Main(string[] args)
    {
        const string usage = "usage: client [--words] IMAGE [URL]";
        if (Array.IndexOf(args, "-h") >= 0 || Array.IndexOf(args, "--help") >= 0)
        {
            Console.WriteLine(usage);
            return 0;
        }
        var given = new List<string>(args);
        var words = given.Remove("--words");
        if (given.Count < 1 || given.Count > 2)
        {
            Console.Error.WriteLine(usage);
            return 1;
        }
        try
        {
            Run(given[0], given.Count == 2 ? given[1] : "http://127.0.0.1:8080/ocr", words);
            return 0;
        }
        catch (Exception error)
        {
            Console.Error.WriteLine("Error: " + error.GetBaseException().Message);
            return 1;
        }
    }

    private static void Run(string image, string url, bool words)
    {
        // Base64 needs no escapes in JSON.
        var body = "{\"image\": \"" + Convert.ToBase64String(File.ReadAllBytes(image))
            + "\", \"inferenceParams\": {\"returnWordBox\": " + (words ? "true" : "false") + "}}";
        Answer answer;
        using (var http = new HttpClient { Timeout = TimeSpan.FromMinutes(2) })
        using (var response = http.PostAsync(url, new StringContent(body, Encoding.UTF8, "application/json")).Result)
        using (var stream = response.Content.ReadAsStreamAsync().Result)
        {
            answer = (Answer)new DataContractJsonSerializer(typeof(Answer)).ReadObject(stream);
        }
        if (answer.ErrorCode != 0)
        {
            throw new InvalidOperationException(answer.ErrorCode + ": " + answer.ErrorMsg);
        }
        using (var output = new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false)))
        {
            foreach (var line in answer.Result.Texts)
            {
                output.WriteLine(FormatScore(line.Score) + "\t" + line.Text);
                foreach (var word in line.Words ?? new Word[0])
                {
                    var corners = string.Join(" ", Array.ConvertAll(word.Poly, corner => corner[0] + "," + corner[1]));
                    output.WriteLine("\t" + FormatScore(word.Score) + "\t" + word.Text + "\t" + corners);
                }
            }
        }
        var saved = Path.GetFileNameWithoutExtension(image) + "_ocr.jpg";
        File.WriteAllBytes(saved, Convert.FromBase64String(answer.Result.Image));
        Console.Error.WriteLine("saved " + saved);
    }

    private static string FormatScore(double score)
    {
        return score.ToString("F3", CultureInfo.InvariantCulture);
    }
}
