"""What kind of thing each name is: the only facts that the labels themselves do not tell."""

from recipes.small_vlm.pictures import DIGITS

_KINDS = {
    "fish": "goldfish",
    "frog": "American bullfrog",
    "reptile": "American alligator, boa constrictor",
    "insect": "ladybug, fly, bee, grasshopper, dragonfly, monarch butterfly",
    "spider": "tarantula",
    "sea animal": "jellyfish, American lobster",
    "small animal": "scorpion, centipede, snail",
    "bird": "goose, king penguin",
    "dog": ("Chihuahua, Yorkshire Terrier, Golden Retriever, German Shepherd Dog, Standard Poodle"),
    "cat": "tabby cat, Persian cat",
    "ape": "orangutan, chimpanzee",
    "large animal": "lion, brown bear, bison, arabian camel, African bush elephant, pig",
    "furry animal": "koala, guinea pig, red panda",
    "vehicle": (
        "station wagon, high-speed train, convertible, freight car, go-kart, school bus, "
        "sports car, tractor"
    ),
    "machine": (
        "automated teller machine, construction crane, lawn mower, parking meter, sewing machine, "
        "refrigerator"
    ),
    "device": "binoculars, computer keyboard, remote control, hourglass",
    "building": "barn, lighthouse, fountain, obelisk, suspension bridge, water tower",
    "piece of furniture": "desk, dining table, rocking chair, bathtub, lampshade",
    "piece of clothing": "bikini, bow tie, military uniform, sock, sombrero, sunglasses",
    "ball": "basketball, rugby ball, volleyball",
    "household item": (
        "backpack, barrel, beer bottle, broom, bucket, candle, frying pan, teapot, teddy bear, "
        "umbrella"
    ),
    "outdoor object": "flagpole, picket fence, spider web",
    "food": "ice cream, pretzel, pizza, espresso",
    "vegetable": "cauliflower, bell pepper, mushroom",
    "fruit": "orange, lemon, banana, pomegranate",
    "landscape": "mountain, coral reef",
}
_ANIMALS = (
    "fish, frog, reptile, insect, spider, sea animal, small animal, bird, dog, cat, ape, "
    "large animal, furry animal"
)
ANIMALS = frozenset(_ANIMALS.split(", "))
"""kinds that are animals"""
DIGIT, SIGN = "digit", "traffic sign"
WITHOUT_ARTICLE = frozenset({"binoculars", "sunglasses", "coral reef", "ice cream", "espresso"})


def kinds(names: list[str], signs: frozenset[str] = frozenset()) -> dict[str, str]:
    """Name -> its kind, for everyday things, digits and `signs`. Raises KeyError for others."""
    known = {name: kind for kind, listed in _KINDS.items() for name in listed.split(", ")}
    known |= dict.fromkeys(DIGITS, DIGIT) | dict.fromkeys(signs, SIGN)
    return {name: known[name] for name in names}
