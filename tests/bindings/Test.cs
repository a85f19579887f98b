// Test MODEL TOKENIZER ABI EXPECTED FOLDER: the stories that Python tells, layout, errors, sessions.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using Tinyzh;

static class Test {
  static void Require(bool condition, string what) {
    if (!condition) throw new Exception(what);
  }

  static int Layout(string path) {
    var lines = File.ReadAllLines(path);
    foreach (string line in lines) {
      string[] words = line.Split(' ');
      Type type = typeof(Native).GetNestedType(words[0]);
      int found = words[1] == "-" ? Marshal.SizeOf(type) : (int)Marshal.OffsetOf(type, words[1]);
      Require(found == int.Parse(words[2]), line + ", here " + found);
    }
    return lines.Length;
  }

  // Polls until a request is over.
  static Event Listen(Engine engine, bool step, out string tokens, out string text) {
    var ids = new List<int>();
    var pieces = new StringBuilder();
    for (;;) {
      if (step) engine.Step(500);
      else engine.Wait(TimeSpan.FromSeconds(1));
      foreach (var e in engine.Events()) {
        if (e.Type == EventType.Token) ids.Add(e.Token);
        else if (e.Type == EventType.Text) pieces.Append(e.Text);
        else {
          tokens = string.Join(" ", ids);
          text = pieces.ToString().Replace("\n", "\\n");
          return e;
        }
      }
    }
  }

  static E Thrown<E>(Action action) where E : Exception {
    try {
      action();
    } catch (E e) {
      return e;
    }
    throw new Exception("nothing was thrown");
  }

  static void Main(string[] a) {
    int fields = Layout(a[2]);
    Require(fields > 40, "fields");
    string[] lines = File.ReadAllLines(a[3]);
    string[] said = { "从前", "小兔子说：“", "有一天" };
    string tokens, text;
    Func<string, Session, Request> request = (words, session) => new Request {
      Text = words, Session = session, Temperature = 0.8f, TopP = 0.9f, Seed = 7, MaxNewTokens = 40, TokenEvents = true };
    using (var model = new Model(a[0]))
    using (var tokenizer = new Tokenizer(a[1]))
      foreach (bool ownThread in new[] { true, false })
        using (var engine = new Engine(model, tokenizer, ownThread, 4)) {
          for (int i = 0; i < said.Length; ++i) {
            engine.Submit(request(said[i], null));
            Event end = Listen(engine, !ownThread, out tokens, out text);
            Require(tokens == lines[2 * i], tokens);
            Require(text == lines[2 * i + 1], text);
            Require(end.Type == EventType.Finished, "finished");
          }
          using (var chat = new Session(engine)) {
            foreach (string words in said) {
              engine.Submit(request(words, chat));
              Listen(engine, !ownThread, out tokens, out text);
            }
            string all = lines[lines.Length - 1], path = Path.Combine(a[4], "cs.tzs");
            Require(string.Join(" ", chat.Tokens()) == all, "session");
            chat.Save(path);
            using (var loaded = Session.Load(engine, path)) Require(string.Join(" ", loaded.Tokens()) == all, "load");
            using (var fork = chat.Fork()) Require(string.Join(" ", fork.Tokens()) == all, "fork");
          }
          ulong id = engine.Submit(new Request { Text = "从前", Shift = true, MinNewTokens = 1000000 });
          engine.Cancel(id);
          Event last = Listen(engine, !ownThread, out tokens, out text);
          Require(last.Finish == Finish.Cancelled && last.Request == id, "cancel");

          int first = tokenizer.Encode("从前")[0];
          engine.Submit(new Request { Ids = new[] { 1, first }, LogitBias = new Dictionary<int, float> { { first, 100 } },
                                      MaxNewTokens = 3, Temperature = 0, TokenEvents = true });
          Listen(engine, !ownThread, out tokens, out text);
          Require(tokens == string.Join(" ", first, first, first), "bias " + tokens);
          engine.Submit(new Request { Text = "从前", Stop = new[] { "。", "！" } });
          Listen(engine, !ownThread, out tokens, out text);
          Require(text.Length > 0 && text.IndexOfAny(new[] { '。', '！' }) < 0, "stop " + text);

          var refused = Thrown<TinyzhException>(() => engine.Submit(new Request { Text = "从前", Temperature = -1 }));
          Require(refused.Code == Code.InvalidArgument && refused.Message.Contains("temperature is -1"), refused.Message);
          engine.Submit(new Request { Text = string.Concat(Enumerable.Repeat("从前", 2000)) });
          last = Listen(engine, !ownThread, out tokens, out text);
          Require(last.Code == Code.ContextFull && last.Text.Contains("shorten the prompt"), "failed");
          engine.Submit(new Request { Ids = new[] { 1, first, 30 }, ScoreFrom = 1 });
          Listen(engine, !ownThread, out tokens, out text);
          Require(tokens == first + " 30", "score " + tokens);
          using (var other = new Model(a[0], WeightType.Int8)) engine.Swap(other);
          Event none;
          var closed = new Engine(model, null, ownThread);
          var orphan = new Session(closed);
          closed.Dispose();
          Thrown<ObjectDisposedException>(() => closed.Poll(out none));
          Thrown<ObjectDisposedException>(() => orphan.Tokens());
          Thrown<ObjectDisposedException>(() => orphan.Fork());
          Require(engine.Stats.running == 0, "stats");
        }
    var missing = Thrown<TinyzhException>(() => new Model("nowhere.bin"));
    Require(missing.Code == Code.File && missing.Message.Contains("nowhere.bin"), missing.Message);
    Console.WriteLine("C#: " + fields + " fields, " + lines.Length + " lines");
  }
}
