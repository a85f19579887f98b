// Tells one story:  Hello MODEL TOKENIZER [PROMPT]
using System;
using System.Text;

static class Hello {
  static int Main(string[] arguments) {
    if (arguments.Length < 2) {
      Console.Error.WriteLine("usage: Hello MODEL TOKENIZER [PROMPT]");
      return 2;
    }
    Console.OutputEncoding = new UTF8Encoding(false);
    string prompt = arguments.Length > 2 ? arguments[2] : "从前";
    using (var model = new Tinyzh.Model(arguments[0]))
    using (var tokenizer = new Tinyzh.Tokenizer(arguments[1]))
    using (var engine = new Tinyzh.Engine(model, tokenizer)) {
      engine.Submit(new Tinyzh.Request { Text = prompt });
      Console.Write(prompt);
      for (bool over = false; !over;) {
        engine.Wait();
        foreach (var e in engine.Events()) {
          Console.Write(e.Text);
          over = e.Type >= Tinyzh.EventType.Finished;
        }
      }
      Console.WriteLine();
      return 0;
    }
  }
}
