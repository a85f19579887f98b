-- luajit test.lua BINDING_FOLDER MODEL TOKENIZER ABI EXPECTED FOLDER: the stories that Python tells, layout, errors, sessions.
package.path = arg[1] .. "/?.lua;" .. package.path
local ffi = require "ffi"
local tinyzh = require "tinyzh"
local _, model_path, tokenizer_path, abi, expected, folder = unpack(arg)

local fields = 0
for struct, field, offset in io.open(abi):read "*a":gmatch "(%S+) (%S+) (%d+)" do
  local found = field == "-" and ffi.sizeof(struct) or ffi.offsetof(struct, field)
  assert(found == tonumber(offset), ("%s %s lies at %s, in C at %s"):format(struct, field, found, offset))
  fields = fields + 1
end
assert(fields > 40)

local lines = {}
for line in io.lines(expected) do lines[#lines + 1] = line end
local said = { "从前", "小兔子说：“", "有一天" }
local function settings(more)
  local all = { temperature = 0.8, top_p = 0.9, seed = 7, max_new_tokens = 40, token_events = 2 }
  for name, value in pairs(more) do all[name] = value end
  return all
end

-- Polls until a request is over: its tokens, its text, its last event.
local function listen(engine, step)
  local tokens, text, last = {}, "", nil
  repeat
    if step then engine:step(500) else engine:wait(1) end
    for event in engine:events() do
      if event.type == "token" then
        assert(event.logprob <= 0)
        tokens[#tokens + 1] = event.token
      elseif event.type == "text" then text = text .. event.text
      else last = event end
    end
  until last
  return table.concat(tokens, " "), text:gsub("\n", "\\n"), last
end

local model, tokenizer = tinyzh.model(model_path), tinyzh.tokenizer(tokenizer_path)
assert(model:info().context >= 512)
for _, own_thread in ipairs { true, false } do
  local engine = tinyzh.engine(model, tokenizer, { own_thread = own_thread, streams = 4 })
  for i, prompt in ipairs(said) do
    engine:submit(settings { text = prompt })
    local tokens, text, last = listen(engine, not own_thread)
    assert(tokens == lines[2 * i - 1], tokens)
    assert(text == lines[2 * i], text)
    assert(last.type == "finished" and (last.finish == "length" or last.finish == "stop"))
  end
  local chat = engine:session()
  for _, words in ipairs(said) do
    engine:submit(settings { text = words, session = chat })
    listen(engine, not own_thread)
  end
  assert(table.concat(chat:tokens(), " ") == lines[#lines])
  chat:save(folder .. "/lua.tzs")
  assert(table.concat(engine:load(folder .. "/lua.tzs"):tokens(), " ") == lines[#lines])
  assert(table.concat(chat:fork():tokens(), " ") == lines[#lines])

  local id = engine:submit { text = "从前", shift = true, min_new_tokens = 1e6 }
  engine:cancel(id)
  local _, _, last = listen(engine, not own_thread)
  assert(last.finish == "cancelled" and last.request == id)

  local ids = tokenizer:encode "从前"
  local biased = engine:submit { ids = { 1, ids[1] }, logit_bias = { [ids[1]] = 100 }, max_new_tokens = 3, temperature = 0, token_events = 1 }
  assert(listen(engine, not own_thread) == table.concat({ ids[1], ids[1], ids[1] }, " "))

  engine:submit { ids = { 1, ids[1], 30 }, score_from = 1 }
  local scored = listen(engine, not own_thread)
  assert(scored == ids[1] .. " 30")

  local fine, failure = pcall(engine.submit, engine, { text = "从前", temperature = -1 })
  assert(not fine and failure.code == 1 and tostring(failure):find "temperature is %-1")
  engine:submit { text = ("从前"):rep(2000) }
  _, _, last = listen(engine, not own_thread)
  assert(last.type == "failed" and last.code == 6 and last.message:find "shorten the prompt")
  engine:swap(tinyzh.model(model_path, { weights = "int8" }))
  assert(engine:stats().running == 0)
  engine:close()
  for _, call in ipairs { function() engine:poll() end, function() engine:submit { text = "从前" } end, function() chat:tokens() end,
                          function() chat:fork() end } do
    local fine, failure = pcall(call)
    assert(not fine and tostring(failure):find "the engine is closed")
  end
end
local fine, failure = pcall(tinyzh.model, "nowhere.bin")
assert(not fine and failure.code == 2 and tostring(failure):find "nowhere.bin")
assert(not pcall(tinyzh.model, model_path, { wieghts = "int8" }))
print("Lua: " .. fields .. " fields, " .. #lines .. " lines")
