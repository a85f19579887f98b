-- Tells one story:  luajit hello.lua MODEL TOKENIZER [PROMPT]
package.path = (arg[0]:match "^.*/" or "") .. "?.lua;" .. package.path
local tinyzh = require "tinyzh"

if #arg < 2 then io.stderr:write "usage: luajit hello.lua MODEL TOKENIZER [PROMPT]\n" os.exit(2) end
local prompt = arg[3] or "从前"

-- As a game would drive it: so many microseconds of every tick, no thread.
local engine = tinyzh.engine(tinyzh.model(arg[1]), tinyzh.tokenizer(arg[2]), { own_thread = false })
engine:submit { text = prompt, seed = 1 }
io.write(prompt)
local ticks = 0
while engine:step(4000) > 0 do
  ticks = ticks + 1
  for event in engine:events() do io.write(event.text or "") io.flush() end
end
for event in engine:events() do io.write(event.text or "") end
io.write(("\n(%d ticks)\n"):format(ticks))
