"""The stories that every language must tell: a line of token ids each, then their texts."""

from __future__ import annotations

import tinyzh

SAID = ("从前", "小兔子说：“", "有一天")


def main() -> None:
    settings = {"temperature": 0.8, "top_p": 0.9, "seed": 7, "max_new_tokens": 40}
    with tinyzh.Model() as model:
        for prompt in SAID:
            story = model.generate(prompt, **settings)
            text = story.read().replace("\n", "\\n")
            print(*story.token_ids)
            print(text)
        chat = model.session()
        for said in SAID:
            chat.say(said, **settings).read()
        print(*chat.token_ids)


main()
