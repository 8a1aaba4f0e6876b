// Calls a model API over and over with .NET's own client, which encrypts with OpenSSL.
using System;
using System.Net.Http;
using System.Text;
using System.Threading;

public static class Caller
{
    public static void Main()
    {
        var url = "https://api.openai.com/v1/chat/completions";
        var body = "{\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}";
        for (;;)
        {
            // A new client, and so a new connection.
            using (var client = new HttpClient())
            {
                try
                {
                    var content = new StringContent(body, Encoding.UTF8, "application/json");
                    Console.WriteLine((int)client.PostAsync(url, content).Result.StatusCode);
                }
                catch (AggregateException error)
                {
                    Console.WriteLine(error.InnerException.Message);
                }
            }
            Thread.Sleep(500);
        }
    }
}
