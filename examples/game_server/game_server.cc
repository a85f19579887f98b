// A world of two hundred characters at thirty ticks a second.  Players walk about; a character that one comes near to
// says something, the nearest first.  The model gets a share of every tick and no more, so the world never waits for
// it; where it has no answer in time, a line from a drawer is said.
//
//   game_server MODEL TOKENIZER [--ticks N] [--seed N] [--budget MICROSECONDS] [--threads N] [--log FILE] [--lines FILE]
//   game_server --replay FILE --seed N
//
// A budget of 0 gives the engine a thread of its own.  The log holds the tick of every piece of text and of every
// failure.  The world depends on its seed and on that log alone: a replay of both, without any model, ends in the
// same state, bit for bit.  Who speaks when depends on how fast the model is; what is said to a seed does not: with
// --lines each line that was told to its end is written down as "SEED TEXT".
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <tinyzh.h>

namespace {

constexpr int kCharacters = 200, kPlayers = 12, kTicksPerSecond = 30;
constexpr int kNear = 60, kPatience = 45;  // distance; ticks until the drawer's line is said
constexpr const char* kCanned = "……今天的风真大。";

// What comes from outside the world: a piece of what a character says, or that it will say nothing (more).
struct Heard {
  int tick, character;
  bool over;
  std::string text;
};

class World {
 public:
  explicit World(uint64_t seed) : random_(seed) {
    for (int i = 0; i < kCharacters; ++i) characters_.push_back({coordinate(), coordinate()});
    for (int i = 0; i < kPlayers; ++i) players_.push_back({coordinate(), coordinate()});
  }

  struct Wish {  // a character wants to say something
    int character, distance;
    uint64_t seed;
  };

  // One thirtieth of a second; what was heard in it, and who wants to speak after it.
  std::vector<Wish> tick(int now, const std::vector<Heard>& heard) {
    for (const Heard& h : heard) {
      Character& c = characters_[static_cast<size_t>(h.character)];
      if (!c.speaking) continue;
      c.said += h.text;
      if (!h.text.empty()) c.last_word = now;
      if (!h.over) continue;
      if (c.said.empty()) c.said = kCanned;
      finish(c);
    }
    for (Character& c : characters_)
      if (c.speaking && now - c.last_word > kPatience) {  // too late: the drawer, and no more from the model
        if (c.said.empty()) c.said = kCanned;
        finish(c);
      }
    for (Place& p : players_) {
      p.x = std::clamp(p.x + step(), 0, 1000);
      p.y = std::clamp(p.y + step(), 0, 1000);
    }
    std::vector<Wish> wishes;
    for (int i = 0; i < kCharacters; ++i) {
      Character& c = characters_[static_cast<size_t>(i)];
      int nearest = kNear;
      for (const Place& p : players_) nearest = std::min(nearest, std::abs(p.x - c.place.x) + std::abs(p.y - c.place.y));
      if (nearest == kNear || c.speaking || now < c.quiet_until) continue;
      c.speaking = true;
      c.said.clear();
      c.last_word = now;
      wishes.push_back({i, nearest, random_()});
    }
    return wishes;
  }

  bool speaking(int character) const { return characters_[static_cast<size_t>(character)].speaking; }
  int lines() const { return lines_; }
  int canned() const { return canned_; }
  uint64_t hash() const { return hash_; }

 private:
  struct Place {
    int x, y;
  };
  struct Character {
    Place place;
    bool speaking = false;
    int last_word = 0, quiet_until = 0;
    std::string said = {};
  };

  void finish(Character& c) {
    c.speaking = false;
    c.quiet_until = c.last_word + 4 * kTicksPerSecond;
    ++lines_;
    canned_ += c.said == kCanned;
    for (const char byte : c.said) mix(static_cast<unsigned char>(byte));
    for (const Place& p : players_) mix(static_cast<uint64_t>(p.x) << 32 | static_cast<uint64_t>(p.y));
  }
  void mix(uint64_t value) { hash_ = (hash_ ^ value) * 0x100000001b3ull; }
  int coordinate() { return static_cast<int>(random_() % 1001); }
  int step() { return static_cast<int>(random_() % 9) - 4; }

  std::mt19937_64 random_;
  std::vector<Character> characters_;
  std::vector<Place> players_;
  int lines_ = 0, canned_ = 0;
  uint64_t hash_ = 0xcbf29ce484222325ull;
};

// The characters' voices: requests in, what was heard out, within a share of the tick.
class Voices {
 public:
  Voices(const std::string& model, const std::string& tokenizer, int threads, bool own_thread, const std::string& lines)
      : own_thread_(own_thread), lines_(lines, std::ios::binary) {
    tinyzh_error error;
    tinyzh_model_options model_options = tinyzh_model_options_default();
    model_options.weights = TINYZH_INT8;
    model_options.threads = threads;
    tinyzh_engine_options options = tinyzh_engine_options_default();
    options.own_thread = own_thread;
    options.streams = 16;
    options.queue_limit = 32;
    if (tinyzh_model_open(model.c_str(), &model_options, &model_, &error) ||
        tinyzh_tokenizer_open(tokenizer.c_str(), 0, &tokenizer_, &error) ||
        tinyzh_engine_create(model_, tokenizer_, &options, &engine_, &error)) {
      std::cerr << error.message << "\n";
      std::exit(1);
    }
  }
  ~Voices() {
    tinyzh_engine_destroy(engine_);
    tinyzh_tokenizer_close(tokenizer_);
    tinyzh_model_close(model_);
  }
  Voices(const Voices&) = delete;
  Voices& operator=(const Voices&) = delete;

  // True if it was taken; a full queue is an answer too.
  bool ask(const World::Wish& wish) {
    static constexpr char kPrompt[] = "有一天，";
    tinyzh_sampling sampling = tinyzh_sampling_default();
    sampling.seed = wish.seed;
    tinyzh_request request = tinyzh_request_default();
    request.text = kPrompt;
    request.text_size = sizeof kPrompt - 1;
    request.sampling = &sampling;
    request.max_new_tokens = 40;
    static const char* const kStop[] = {"。"};
    request.stop = kStop;
    request.stop_count = 1;
    request.priority = -wish.distance;
    request.timeout_us = 3'000'000;
    request.user = reinterpret_cast<void*>(static_cast<intptr_t>(wish.character));
    uint64_t id;
    if (tinyzh_engine_submit(engine_, &request, &id, nullptr) != TINYZH_OK) return false;
    requests_[wish.character] = {id, wish.seed, {}};
    return true;
  }

  void hush(int character) {
    if (const auto found = requests_.find(character); found != requests_.end())
      tinyzh_engine_cancel(engine_, found->second.id);
  }

  std::vector<Heard> listen(int tick, uint32_t budget_us) {
    if (!own_thread_) tinyzh_engine_step(engine_, budget_us);
    std::vector<Heard> heard;
    for (tinyzh_event event; tinyzh_engine_poll(engine_, &event);) {
      const int character = static_cast<int>(reinterpret_cast<intptr_t>(event.user));
      Line& line = requests_[character];
      if (line.id != event.request) continue;  // of a line that the world does not wait for any more
      if (event.type == TINYZH_EVENT_TEXT) {
        heard.push_back({tick, character, false, {event.text, event.size}});
        line.text += heard.back().text;
      }
      if (event.type < TINYZH_EVENT_FINISHED) continue;
      heard.push_back({tick, character, true, {}});
      if (event.finish == TINYZH_STOP || event.finish == TINYZH_LENGTH) lines_ << line.seed << ' ' << line.text << '\n';
    }
    return heard;
  }

 private:
  tinyzh_model* model_ = nullptr;
  tinyzh_tokenizer* tokenizer_ = nullptr;
  tinyzh_engine* engine_ = nullptr;
  struct Line {
    uint64_t id = 0, seed = 0;
    std::string text = {};
  };
  const bool own_thread_;
  std::map<int, Line> requests_;  // the last one of each character
  std::ofstream lines_;
};

void write(std::ostream& log, const Heard& h) {
  log << h.tick << ' ' << h.character << ' ' << h.over << ' ' << h.text.size() << ' ' << h.text << '\n';
}

std::map<int, std::vector<Heard>> read_log(const std::string& path) {
  std::map<int, std::vector<Heard>> by_tick;
  std::ifstream log(path, std::ios::binary);
  Heard h;
  for (size_t size; log >> h.tick >> h.character >> h.over >> size && log.get() == ' ';) {
    h.text.resize(size);
    log.read(h.text.data(), static_cast<std::streamsize>(size));
    by_tick[h.tick].push_back(h);
  }
  return by_tick;
}

void report(const World& world, int ticks) {
  std::cout << "ticks " << ticks << "  lines " << world.lines() << "  canned " << world.canned() << "  world "
            << std::hex << world.hash() << std::dec << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> files;
  std::map<std::string, std::string> options = {{"--ticks", "300"}, {"--seed", "1"}, {"--budget", "8000"},
                                                {"--threads", "0"}, {"--log", ""},   {"--replay", ""}, {"--lines", ""}};
  for (int i = 1; i < argc; ++i)
    if (options.count(argv[i]) && i + 1 < argc) {
      options[argv[i]] = argv[i + 1];
      ++i;
    } else {
      files.emplace_back(argv[i]);
    }
  const int ticks = std::stoi(options["--ticks"]);
  World world(std::stoull(options["--seed"]));
  if (!options["--replay"].empty()) {
    std::map<int, std::vector<Heard>> heard = read_log(options["--replay"]);
    for (int now = 0; now < ticks; ++now) world.tick(now, heard[now]);
    report(world, ticks);
    return 0;
  }
  if (files.size() != 2) {
    std::cerr << "usage: game_server MODEL TOKENIZER [--ticks N] [--seed N] [--budget MICROSECONDS] [--threads N] [--log FILE] [--lines FILE]\n";
    return 2;
  }
  const auto budget = static_cast<uint32_t>(std::stoul(options["--budget"]));
  Voices voices(files[0], files[1], std::stoi(options["--threads"]), budget == 0, options["--lines"]);
  std::ofstream log(options["--log"], std::ios::binary);
  std::vector<Heard> refused;
  std::vector<double> worst;
  const auto start = std::chrono::steady_clock::now();
  for (int now = 0; now < ticks; ++now) {
    const auto begin = std::chrono::steady_clock::now();
    std::vector<Heard> heard = std::move(refused);
    refused.clear();
    for (Heard& h : heard) h.tick = now;
    const std::vector<Heard> voiced = voices.listen(now, budget);
    heard.insert(heard.end(), voiced.begin(), voiced.end());
    std::vector<bool> before(kCharacters);
    for (int i = 0; i < kCharacters; ++i) before[static_cast<size_t>(i)] = world.speaking(i);
    for (const Heard& h : heard) write(log, h);
    const std::vector<World::Wish> wishes = world.tick(now, heard);
    for (int i = 0; i < kCharacters; ++i)
      if (before[static_cast<size_t>(i)] && !world.speaking(i)) voices.hush(i);
    for (const World::Wish& wish : wishes)
      if (!voices.ask(wish)) refused.push_back({now, wish.character, true, {}});
    worst.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    std::this_thread::sleep_until(start + std::chrono::microseconds(1'000'000ll * (now + 1) / kTicksPerSecond));
  }
  std::sort(worst.begin(), worst.end());
  std::cout << "tick ms  p50 " << worst[worst.size() / 2] << "  p99 " << worst[worst.size() * 99 / 100] << "  max "
            << worst.back() << "\n";
  report(world, ticks);
}
