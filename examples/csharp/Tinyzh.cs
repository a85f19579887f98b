// tinyzh for C#: story models through the C library.  One file: copy it to your project; it needs no unsafe code.
//
//   using (var model = new Tinyzh.Model("story.bin"))
//   using (var tokenizer = new Tinyzh.Tokenizer("story.tokenizer.bin"))
//   using (var engine = new Tinyzh.Engine(model, tokenizer)) {
//     engine.Submit(new Tinyzh.Request { Text = "从前", Seed = 7 });
//     while (engine.Wait())
//       foreach (var e in engine.Events()) Console.Write(e.Text);
//   }
//
// What goes wrong is a Tinyzh.TinyzhException with the library's message.  The library is found as "tinyzh"
// (libtinyzh.so, libtinyzh.dylib, tinyzh.dll) beside the program or on the system's search path.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text;

namespace Tinyzh {

public enum Code {
  Ok, InvalidArgument, File, Checkpoint, Tokenizer, Generation, ContextFull, QueueFull, Backend, Closed, OutOfMemory, Busy
}
public enum WeightType { Auto, Float32, Float16, Int8, Int4, Bfloat16 }
public enum EventType { Token = 1, Text, Finished, Failed }
public enum Finish { None, Stop, Length, Cancelled, Timeout }

public class TinyzhException : Exception {
  public readonly Code Code;
  public TinyzhException(Code code, string message) : base(message) { Code = code; }
}

// ---- what the header declares, field by field ------------------------------------------------------------------

public static class Native {
  public const uint AbiVersion = 1;
  const string Library = "tinyzh";

  [StructLayout(LayoutKind.Sequential)] public struct tinyzh_model_options {
    public UIntPtr struct_size; public int weights, cache, threads; public IntPtr isa, allocator, device;
  }
  [StructLayout(LayoutKind.Sequential)] public struct tinyzh_model_info {
    public int dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, context;
    public ulong parameters, file_bytes, weight_bytes, cache_page_bytes, fingerprint;
    public ulong reserved0, reserved1, reserved2, reserved3;
  }
  [StructLayout(LayoutKind.Sequential)] public struct tinyzh_engine_options {
    public UIntPtr struct_size; public uint streams, queue_limit, prompt_rows; public int own_thread; public ulong cache_bytes;
    public IntPtr log, log_user;
  }
  [StructLayout(LayoutKind.Sequential)] public struct tinyzh_bias { public int token; public float bias; }
  [StructLayout(LayoutKind.Sequential)] public struct tinyzh_sampling {
    public UIntPtr struct_size; public float temperature, top_p; public int top_k;
    public float min_p, repetition_penalty, presence_penalty, frequency_penalty; public ulong seed;
    public IntPtr logit_bias; public UIntPtr logit_bias_count;
  }
  [StructLayout(LayoutKind.Sequential)] public struct tinyzh_request {
    public UIntPtr struct_size; public IntPtr text; public UIntPtr text_size; public IntPtr ids; public UIntPtr id_count;
    public IntPtr session, sampling; public long max_new_tokens, min_new_tokens;
    public IntPtr stop; public UIntPtr stop_count; public IntPtr bad_words; public UIntPtr bad_word_count;
    public int shift, priority; public long timeout_us; public int token_events; public UIntPtr score_from; public IntPtr user;
  }
  [StructLayout(LayoutKind.Sequential)] public struct tinyzh_event {
    public int type, token; public float logprob; public int finish, code; public ulong request; public IntPtr user, text;
    public UIntPtr size; public ulong reserved0, reserved1, reserved2, reserved3;
  }
  [StructLayout(LayoutKind.Sequential)] public struct tinyzh_percentiles { public double p50, p90, p99; }
  [StructLayout(LayoutKind.Sequential)] public struct tinyzh_stats {
    public ulong running, waiting, cache_bytes, cache_limit_bytes, cache_kept_bytes, steps, requests, preemptions;
    public ulong prompt_tokens, reused_tokens, new_tokens; public double tokens_per_second;
    public tinyzh_percentiles step, overhead, first_token;
    public ulong reserved0, reserved1, reserved2, reserved3, reserved4, reserved5, reserved6, reserved7;
  }

  // A tinyzh_error is given as its bytes: the code, then the message.
  [StructLayout(LayoutKind.Sequential)] public struct tinyzh_error {
    public int code; [MarshalAs(UnmanagedType.ByValArray, SizeConst = 508)] public byte[] message;
  }
  [StructLayout(LayoutKind.Sequential)] public struct tinyzh_allocator { public IntPtr allocate, release, user; }
  [DllImport(Library)] public static extern uint tinyzh_abi_version();
  [DllImport(Library)] public static extern tinyzh_model_options tinyzh_model_options_default();
  [DllImport(Library)] public static extern int tinyzh_model_open(byte[] path, ref tinyzh_model_options options, out IntPtr model, byte[] error);
  [DllImport(Library)] public static extern void tinyzh_model_close(IntPtr model);
  [DllImport(Library)] public static extern tinyzh_model_info tinyzh_model_get_info(SafeHandle model);
  [DllImport(Library)] public static extern int tinyzh_tokenizer_open(byte[] path, int vocab_size, out IntPtr tokenizer, byte[] error);
  [DllImport(Library)] public static extern void tinyzh_tokenizer_close(IntPtr tokenizer);
  [DllImport(Library)] public static extern int tinyzh_tokenizer_encode(SafeHandle tokenizer, byte[] text, UIntPtr text_size, uint flags, int[] ids, UIntPtr capacity, out UIntPtr count, byte[] error);
  [DllImport(Library)] public static extern tinyzh_engine_options tinyzh_engine_options_default();
  [DllImport(Library)] public static extern int tinyzh_engine_create(SafeHandle model, SafeHandle tokenizer, ref tinyzh_engine_options options, out IntPtr engine, byte[] error);
  [DllImport(Library)] public static extern void tinyzh_engine_destroy(IntPtr engine);
  [DllImport(Library)] public static extern int tinyzh_model_swap(SafeHandle engine, SafeHandle model, byte[] error);
  [DllImport(Library)] public static extern tinyzh_sampling tinyzh_sampling_default();
  [DllImport(Library)] public static extern tinyzh_request tinyzh_request_default();
  [DllImport(Library)] public static extern int tinyzh_engine_submit(SafeHandle engine, ref tinyzh_request request, out ulong id, byte[] error);
  [DllImport(Library)] public static extern void tinyzh_engine_cancel(SafeHandle engine, ulong id);
  [DllImport(Library)] public static extern int tinyzh_engine_poll(SafeHandle engine, out tinyzh_event e);
  [DllImport(Library)] public static extern int tinyzh_engine_wait(SafeHandle engine, long timeout_us);
  [DllImport(Library)] public static extern UIntPtr tinyzh_engine_step(SafeHandle engine, uint budget_us);
  [DllImport(Library)] public static extern tinyzh_stats tinyzh_engine_get_stats(SafeHandle engine);
  [DllImport(Library)] public static extern int tinyzh_session_create(SafeHandle engine, out IntPtr session, byte[] error);
  [DllImport(Library)] public static extern void tinyzh_session_destroy(IntPtr session);
  [DllImport(Library)] public static extern int tinyzh_session_fork(SafeHandle session, out IntPtr fork, byte[] error);
  [DllImport(Library)] public static extern int tinyzh_session_tokens(SafeHandle session, int[] ids, UIntPtr capacity, out UIntPtr count, byte[] error);
  [DllImport(Library)] public static extern int tinyzh_session_save(SafeHandle session, byte[] path, byte[] error);
  [DllImport(Library)] public static extern int tinyzh_session_load(SafeHandle engine, byte[] path, out IntPtr session, byte[] error);
}

// ---- errors, strings, handles ----------------------------------------------------------------------------------

static class Call {
  public static byte[] Failure() { return new byte[512]; }

  public static void Check(int code, byte[] failure) {
    if (code == 0) return;
    int end = Array.IndexOf(failure, (byte)0, 4);
    throw new TinyzhException((Code)code, Encoding.UTF8.GetString(failure, 4, end - 4));
  }

  public static byte[] Terminated(string text) { return Encoding.UTF8.GetBytes(text + "\0"); }
}

// Memory for the time of one call.
sealed class Scope : IDisposable {
  readonly List<IntPtr> _blocks = new List<IntPtr>();

  public IntPtr Take(int size) {
    IntPtr block = Marshal.AllocHGlobal(Math.Max(size, 1));
    _blocks.Add(block);
    return block;
  }
  public IntPtr Of(byte[] bytes) {
    IntPtr block = Take(bytes.Length);
    Marshal.Copy(bytes, 0, block, bytes.Length);
    return block;
  }
  public IntPtr Of(int[] numbers) {
    IntPtr block = Take(4 * numbers.Length);
    Marshal.Copy(numbers, 0, block, numbers.Length);
    return block;
  }
  public IntPtr Of<T>(T value) where T : struct {
    IntPtr block = Take(Marshal.SizeOf(typeof(T)));
    Marshal.StructureToPtr(value, block, false);
    return block;
  }
  public IntPtr Of(string[] strings) {
    IntPtr block = Take(IntPtr.Size * strings.Length);
    for (int i = 0; i < strings.Length; ++i) Marshal.WriteIntPtr(block, i * IntPtr.Size, Of(Call.Terminated(strings[i])));
    return block;
  }
  public void Dispose() {
    foreach (IntPtr block in _blocks) Marshal.FreeHGlobal(block);
  }
}

public abstract class Handle : SafeHandle {
  protected Handle() : base(IntPtr.Zero, true) { }
  public override bool IsInvalid { get { return handle == IntPtr.Zero; } }
  internal IntPtr Pointer {
    get {
      if (IsClosed) throw new ObjectDisposedException(GetType().Name);
      return handle;
    }
  }
}

// ---- models and tokenizers -------------------------------------------------------------------------------------

public sealed class Model : Handle {
  // threads: 0 for the physical cores.
  public Model(string path, WeightType weights = WeightType.Auto, WeightType cache = WeightType.Auto, int threads = 0) {
    if (Native.tinyzh_abi_version() != Native.AbiVersion)
      throw new TinyzhException(Code.Backend, "this file goes with another version of the library");
    var options = Native.tinyzh_model_options_default();
    options.weights = (int)weights;
    options.cache = (int)cache;
    options.threads = threads;
    byte[] failure = Call.Failure();
    IntPtr model;
    Call.Check(Native.tinyzh_model_open(Call.Terminated(path), ref options, out model, failure), failure);
    SetHandle(model);
  }
  public Native.tinyzh_model_info Info { get { return Native.tinyzh_model_get_info(this); } }
  protected override bool ReleaseHandle() { Native.tinyzh_model_close(handle); return true; }
}

public sealed class Tokenizer : Handle {
  internal static readonly Tokenizer None = new Tokenizer();
  Tokenizer() { }
  public Tokenizer(string path) {
    byte[] failure = Call.Failure();
    IntPtr tokenizer;
    Call.Check(Native.tinyzh_tokenizer_open(Call.Terminated(path), 0, out tokenizer, failure), failure);
    SetHandle(tokenizer);
  }
  // Token ids of a text; continues: it follows another one.
  public int[] Encode(string text, bool continues = false) {
    byte[] bytes = Encoding.UTF8.GetBytes(text), failure = Call.Failure();
    var ids = new int[bytes.Length + 2];  // a token has a byte at least; a space in front may be one more
    UIntPtr count;
    Call.Check(Native.tinyzh_tokenizer_encode(this, bytes, (UIntPtr)bytes.Length, continues ? 2u : 0u, ids,
                                              (UIntPtr)ids.Length, out count, failure), failure);
    Array.Resize(ref ids, (int)count);
    return ids;
  }
  protected override bool ReleaseHandle() { Native.tinyzh_tokenizer_close(handle); return true; }
}

// ---- engines ---------------------------------------------------------------------------------------------------

public sealed class Request {
  public string Text;              // or
  public int[] Ids;
  public Session Session;
  public float Temperature = 0.9f, TopP = 0.9f, MinP = 0, RepetitionPenalty = 1, PresencePenalty = 0, FrequencyPenalty = 0;
  public int TopK = 0;
  public ulong Seed = 1;
  public Dictionary<int, float> LogitBias;
  public long MaxNewTokens = -1, MinNewTokens = 0;
  public string[] Stop, BadWords;
  public bool Shift;               // goes on beyond the context
  public int Priority = 0;
  public TimeSpan? Timeout;
  public bool TokenEvents;         // EventType.Token for every token, with its log-probability
  public int ScoreFrom = 0;
}

public struct Event {
  public EventType Type;
  public ulong Request;
  public string Text;      // of Text; the message of Failed
  public int Token;
  public float Logprob;
  public Finish Finish;
  public Code Code;
}

public sealed class Engine : Handle {
  // tokenizer: null for prompts of ids.  ownThread: false for Step().  cacheBytes: 0 for the default.
  public Engine(Model model, Tokenizer tokenizer, bool ownThread = true, uint streams = 64, uint queueLimit = 1024, ulong cacheBytes = 0) {
    var options = Native.tinyzh_engine_options_default();
    options.own_thread = ownThread ? 1 : 0;
    options.streams = streams;
    options.queue_limit = queueLimit;
    options.cache_bytes = cacheBytes;
    byte[] failure = Call.Failure();
    IntPtr engine;
    Call.Check(Native.tinyzh_engine_create(model, tokenizer ?? Tokenizer.None, ref options, out engine, failure), failure);
    SetHandle(engine);
  }

  // Hands a request in and gives its id.
  public ulong Submit(Request request) {
    using (var scope = new Scope()) {
      var s = Native.tinyzh_sampling_default();
      s.temperature = request.Temperature;
      s.top_p = request.TopP;
      s.top_k = request.TopK;
      s.min_p = request.MinP;
      s.repetition_penalty = request.RepetitionPenalty;
      s.presence_penalty = request.PresencePenalty;
      s.frequency_penalty = request.FrequencyPenalty;
      s.seed = request.Seed;
      if (request.LogitBias != null) {
        int size = Marshal.SizeOf(typeof(Native.tinyzh_bias)), i = 0;
        s.logit_bias = scope.Take(size * request.LogitBias.Count);
        s.logit_bias_count = (UIntPtr)request.LogitBias.Count;
        foreach (var pair in request.LogitBias)
          Marshal.StructureToPtr(new Native.tinyzh_bias { token = pair.Key, bias = pair.Value }, s.logit_bias + size * i++, false);
      }
      var r = Native.tinyzh_request_default();
      r.sampling = scope.Of(s);
      if (request.Text != null) {
        byte[] text = Encoding.UTF8.GetBytes(request.Text);
        r.text = scope.Of(text);
        r.text_size = (UIntPtr)text.Length;
      }
      if (request.Ids != null) {
        r.ids = scope.Of(request.Ids);
        r.id_count = (UIntPtr)request.Ids.Length;
      }
      if (request.Session != null) r.session = request.Session.Open.Pointer;
      r.max_new_tokens = request.MaxNewTokens;
      r.min_new_tokens = request.MinNewTokens;
      if (request.Stop != null) {
        r.stop = scope.Of(request.Stop);
        r.stop_count = (UIntPtr)request.Stop.Length;
      }
      if (request.BadWords != null) {
        r.bad_words = scope.Of(request.BadWords);
        r.bad_word_count = (UIntPtr)request.BadWords.Length;
      }
      r.shift = request.Shift ? 1 : 0;
      r.priority = request.Priority;
      if (request.Timeout.HasValue) r.timeout_us = request.Timeout.Value.Ticks / 10;
      r.token_events = request.TokenEvents ? 2 : 0;
      r.score_from = (UIntPtr)request.ScoreFrom;
      byte[] failure = Call.Failure();
      ulong id;
      int code = Native.tinyzh_engine_submit(this, ref r, out id, failure);
      GC.KeepAlive(request.Session);
      Call.Check(code, failure);
      return id;
    }
  }

  public void Cancel(ulong id) { Native.tinyzh_engine_cancel(this, id); }

  // The next event; false: there is none now.  Never waits.
  public bool Poll(out Event e) {
    Native.tinyzh_event n;
    e = new Event();
    if (Native.tinyzh_engine_poll(this, out n) == 0) return false;
    e.Type = (EventType)n.type;
    e.Request = n.request;
    e.Token = n.token;
    e.Logprob = n.logprob;
    e.Finish = (Finish)n.finish;
    e.Code = (Code)n.code;
    if (e.Type == EventType.Text || e.Type == EventType.Failed) {
      var bytes = new byte[(int)n.size];
      Marshal.Copy(n.text, bytes, 0, bytes.Length);
      e.Text = Encoding.UTF8.GetString(bytes);
    }
    return true;
  }
  public IEnumerable<Event> Events() {
    Event e;
    while (Poll(out e)) yield return e;
  }

  // Waits for something to poll: for so long, or for ever; false: there is nothing.
  public bool Wait(TimeSpan? time = null) {
    return Native.tinyzh_engine_wait(this, time.HasValue ? time.Value.Ticks / 10 : -1) != 0;
  }
  // Of an engine without a thread: works so many microseconds; gives the number of requests that are not over.
  public ulong Step(uint microseconds) { return (ulong)Native.tinyzh_engine_step(this, microseconds); }
  // New requests are for this model from now on.
  public void Swap(Model model) {
    byte[] failure = Call.Failure();
    Call.Check(Native.tinyzh_model_swap(this, model, failure), failure);
  }
  public Native.tinyzh_stats Stats { get { return Native.tinyzh_engine_get_stats(this); } }
  protected override bool ReleaseHandle() { Native.tinyzh_engine_destroy(handle); return true; }
}

// A text that several requests continue.
public sealed class Session : Handle {
  readonly Engine _engine;

  // Nothing may be asked of a session whose engine is gone.
  internal Session Open { get { if (_engine.IsClosed) throw new ObjectDisposedException("Engine"); return this; } }

  Session(Engine engine, IntPtr session) { _engine = engine; SetHandle(session); }

  public Session(Engine engine) {
    _engine = engine;
    byte[] failure = Call.Failure();
    IntPtr session;
    Call.Check(Native.tinyzh_session_create(engine, out session, failure), failure);
    SetHandle(session);
  }
  public static Session Load(Engine engine, string path) {
    byte[] failure = Call.Failure();
    IntPtr session;
    Call.Check(Native.tinyzh_session_load(engine, Call.Terminated(path), out session, failure), failure);
    return new Session(engine, session);
  }
  public Session Fork() {
    byte[] failure = Call.Failure();
    IntPtr fork;
    Call.Check(Native.tinyzh_session_fork(Open, out fork, failure), failure);
    return new Session(_engine, fork);
  }
  public void Save(string path) {
    byte[] failure = Call.Failure();
    Call.Check(Native.tinyzh_session_save(Open, Call.Terminated(path), failure), failure);
  }
  // Token ids so far.
  public int[] Tokens() {
    byte[] failure = Call.Failure();
    UIntPtr count;
    Call.Check(Native.tinyzh_session_tokens(Open, null, UIntPtr.Zero, out count, failure), failure);
    var ids = new int[(int)count];
    Call.Check(Native.tinyzh_session_tokens(Open, ids, count, out count, failure), failure);
    return ids;
  }
  protected override bool ReleaseHandle() { Native.tinyzh_session_destroy(handle); return true; }
}

}  // namespace Tinyzh
