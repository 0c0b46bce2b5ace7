// Reads the text of a picture with edge-ocr's service: Client IMAGE [URL]
// Builds with .NET 8 (dotnet run) and with Mono (mcs -r:System.Net.Http.dll -r:System.Runtime.Serialization.dll Client.cs).

using System;
using System.Globalization;
using System.IO;
using System.Net.Http;
using System.Runtime.Serialization;
using System.Runtime.Serialization.Json;
using System.Text;

[DataContract]
public class Line
{
    [DataMember(Name = "poly")] public int[][] Poly;
    [DataMember(Name = "text")] public string Text;
    [DataMember(Name = "score")] public double Score;
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
        const string usage = "usage: client IMAGE [URL]";
        if (Array.IndexOf(args, "-h") >= 0 || Array.IndexOf(args, "--help") >= 0)
        {
            Console.WriteLine(usage);
            return 0;
        }
        if (args.Length < 1 || args.Length > 2)
        {
            Console.Error.WriteLine(usage);
            return 1;
        }
        try
        {
            Run(args[0], args.Length == 2 ? args[1] : "http://127.0.0.1:8080/ocr");
            return 0;
        }
        catch (Exception error)
        {
            Console.Error.WriteLine("Error: " + error.GetBaseException().Message);
            return 1;
        }
    }

    private static void Run(string image, string url)
    {
        // Base64 needs no escapes in JSON.
        var body = "{\"image\": \"" + Convert.ToBase64String(File.ReadAllBytes(image)) + "\"}";
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
                output.WriteLine(line.Score.ToString("F3", CultureInfo.InvariantCulture) + "\t" + line.Text);
            }
        }
        var saved = Path.GetFileNameWithoutExtension(image) + "_ocr.jpg";
        File.WriteAllBytes(saved, Convert.FromBase64String(answer.Result.Image));
        Console.Error.WriteLine("saved " + saved);
    }
}
