"""The vocabulary of the demo shop: categories, brands, colours and phrases. All brands and models are invented."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AUDIENCES", "BRANDS", "CATEGORIES", "COLOURS", "COMPLEMENTS", "MODELS", "QUERIES", "Brand", "Category"]


@dataclass(frozen=True)
class Category:
    """Describe a kind of product.

    Args:
        name: As in the column `category`.
        noun: As in titles.
        world: What kind of life it belongs to; brands and shoppers have worlds.
        share: Of all products, relative.
        price: Typical, in the shop's currency.
        weight_grams: Typical; 0 where nobody asks.
        season: "summer", "winter" or "all year".
        waterproof: Share of waterproof models.
        materials: To choose from.
        purposes: Ends of a sentence "made for ...".
    """

    name: str
    noun: str
    world: str
    share: float
    price: float
    weight_grams: int
    season: str
    waterproof: float
    materials: tuple[str, ...]
    purposes: tuple[str, ...]


CATEGORIES = (
    Category("hiking boots", "hiking boot", "outdoor", 9, 150, 620, "all year", 0.7, ("leather", "suede", "nylon mesh"),
             ("long days in the hills", "rocky mountain paths", "multi-day treks with a heavy pack")),
    Category("trail running shoes", "trail running shoe", "sport", 9, 120, 290, "all year", 0.35,
             ("nylon mesh", "ripstop nylon", "knit"),
             ("muddy forest tracks", "fast runs off the road", "steep, loose ground")),
    Category("road running shoes", "road running shoe", "sport", 9, 115, 250, "all year", 0.1, ("knit", "nylon mesh"),
             ("daily miles on tarmac", "marathon training", "easy recovery runs")),
    Category("gym shoes", "training shoe", "sport", 5, 90, 270, "all year", 0.0, ("knit", "nylon mesh", "leather"),
             ("the weight room", "indoor classes", "circuit training")),
    Category("football boots", "football boot", "sport", 4, 85, 230, "all year", 0.0,
             ("synthetic", "knit", "leather"), ("firm ground", "quick turns on grass", "Sunday matches")),
    Category("walking shoes", "walking shoe", "outdoor", 7, 95, 380, "all year", 0.5,
             ("leather", "suede", "nylon mesh"),
             ("walking the dog", "country lanes", "city breaks with a lot of walking")),
    Category("rain boots", "rain boot", "outdoor", 5, 60, 800, "all year", 1.0, ("rubber", "natural rubber"),
             ("puddles and wet gardens", "festivals in the rain", "muddy farmyards")),
    Category("winter boots", "winter boot", "outdoor", 7, 140, 700, "winter", 0.75, ("leather", "suede", "nylon"),
             ("snow and slush", "icy pavements", "cold mornings at the bus stop")),
    Category("sneakers", "sneaker", "city", 11, 85, 340, "all year", 0.05, ("leather", "canvas", "suede", "knit"),
             ("every day in town", "jeans and a T-shirt", "travelling light")),
    Category("Chelsea boots", "Chelsea boot", "city", 6, 135, 480, "all year", 0.2, ("leather", "suede"),
             ("dressing up a pair of jeans", "rainy commutes", "autumn evenings")),
    Category("loafers", "loafer", "formal", 5, 110, 320, "all year", 0.0, ("leather", "suede"),
             ("the office", "summer weddings", "smart casual days")),
    Category("dress shoes", "Oxford shoe", "formal", 5, 160, 420, "all year", 0.0, ("leather", "patent leather"),
             ("suits and interviews", "formal evenings", "the boardroom")),
    Category("heels", "heel", "formal", 5, 105, 280, "all year", 0.0, ("leather", "suede", "satin"),
             ("parties and dancing", "weddings", "long evenings")),
    Category("ballet flats", "ballet flat", "city", 4, 70, 200, "summer", 0.0, ("leather", "suede", "knit"),
             ("warm office days", "packing small", "dresses and skirts")),
    Category("sandals", "sandal", "city", 7, 65, 240, "summer", 0.05, ("leather", "cork and leather", "webbing"),
             ("the beach", "hot days in the city", "holidays by the sea")),
    Category("hiking sandals", "hiking sandal", "outdoor", 3, 80, 330, "summer", 0.3, ("webbing", "ripstop nylon"),
             ("river crossings", "summer trails", "camping trips")),
    Category("slippers", "slipper", "home", 5, 42, 210, "winter", 0.0, ("felted wool", "sheepskin", "cotton"),
             ("cold floors", "slow Sunday mornings", "working from home")),
    Category("clogs", "clog", "home", 4, 58, 260, "all year", 0.3, ("EVA foam", "cork and leather", "wood and leather"),
             ("the garden", "long shifts on your feet", "kitchens and quick errands")),
    Category("safety shoes", "safety shoe", "work", 5, 98, 640, "all year", 0.5, ("leather", "microfibre"),
             ("building sites", "warehouses", "workshops with a toe-cap rule")),
    Category("nursing shoes", "nursing shoe", "work", 3, 72, 300, "all year", 0.2, ("microfibre", "leather"),
             ("hospital wards", "twelve-hour shifts", "floors that are often wet")),
    Category("socks", "socks", "care", 6, 16, 60, "all year", 0.0, ("merino wool", "cotton", "bamboo"),
             ("keeping feet dry", "wearing inside boots", "blister-free miles")),
    Category("insoles", "insoles", "care", 3, 28, 0, "all year", 0.0, ("foam", "gel", "cork"),
             ("tired arches", "more cushioning", "boots that are half a size too large")),
    Category("shoe care", "leather wax", "care", 3, 14, 0, "all year", 0.0, ("beeswax", "carnauba wax"),
             ("leather that has to stay supple", "keeping water out", "bringing back a shine")),
    Category("laces", "laces", "care", 2, 8, 0, "all year", 0.0, ("waxed cotton", "polyester"),
             ("boots with hooks", "replacing a broken pair", "a change of colour")),
    Category("gaiters", "gaiters", "outdoor", 2, 45, 180, "winter", 1.0, ("nylon", "softshell"),
             ("deep snow", "wet bracken", "keeping grit out")),
)  # fmt: skip

# What people buy after something, with relative weights; the other column names categories.
COMPLEMENTS = {
    "hiking boots": (("socks", 3), ("shoe care", 3), ("insoles", 2), ("gaiters", 2), ("laces", 1)),
    "trail running shoes": (("socks", 3), ("insoles", 1), ("gaiters", 1)),
    "road running shoes": (("socks", 3), ("insoles", 2), ("gym shoes", 1)),
    "gym shoes": (("socks", 3), ("road running shoes", 1)),
    "football boots": (("socks", 3), ("gym shoes", 1)),
    "walking shoes": (("socks", 2), ("insoles", 2), ("shoe care", 1)),
    "rain boots": (("socks", 3), ("insoles", 1)),
    "winter boots": (("socks", 3), ("shoe care", 2), ("slippers", 2), ("insoles", 1)),
    "sneakers": (("laces", 2), ("socks", 2), ("shoe care", 1)),
    "Chelsea boots": (("shoe care", 3), ("socks", 1), ("insoles", 1)),
    "loafers": (("shoe care", 2), ("socks", 1), ("dress shoes", 1)),
    "dress shoes": (("shoe care", 3), ("laces", 2), ("socks", 1), ("loafers", 1)),
    "heels": (("insoles", 2), ("ballet flats", 2), ("shoe care", 1)),
    "ballet flats": (("insoles", 2), ("sandals", 1)),
    "sandals": (("ballet flats", 1), ("clogs", 1), ("hiking sandals", 1)),
    "hiking sandals": (("socks", 1), ("hiking boots", 1)),
    "slippers": (("socks", 2), ("clogs", 1)),
    "clogs": (("slippers", 1), ("socks", 1)),
    "safety shoes": (("insoles", 3), ("socks", 3), ("laces", 1)),
    "nursing shoes": (("insoles", 2), ("clogs", 2), ("socks", 2)),
    "socks": (("insoles", 1), ("laces", 1), ("slippers", 1)),
    "insoles": (("socks", 2), ("laces", 1)),
    "shoe care": (("laces", 2), ("socks", 1)),
    "laces": (("shoe care", 2), ("insoles", 1)),
    "gaiters": (("socks", 2), ("hiking boots", 2)),
}


@dataclass(frozen=True)
class Brand:
    """Describe a maker: the worlds it works in and its price level (1 is the middle)."""

    name: str
    worlds: tuple[str, ...]
    price_level: float


BRANDS = (
    Brand("Fernhill", ("outdoor",), 1.1),
    Brand("Tarnbeck", ("outdoor",), 1.5),
    Brand("Moorwick", ("outdoor",), 0.7),
    Brand("Stonebrae", ("outdoor", "work"), 1.0),
    Brand("Peakhollow", ("outdoor",), 1.25),
    Brand("Larkmoss", ("outdoor", "home"), 0.85),
    Brand("Puddlewick", ("outdoor",), 0.8),
    Brand("Velorane", ("sport",), 1.35),
    Brand("Stridewell", ("sport",), 1.0),
    Brand("Pacelane", ("sport",), 0.75),
    Brand("Quickfell", ("sport", "outdoor"), 1.15),
    Brand("Runolo", ("sport",), 1.5),
    Brand("Tempodo", ("sport",), 0.9),
    Brand("Harbourline", ("city",), 1.0),
    Brand("Otterby", ("city",), 0.75),
    Brand("Cobble & Kin", ("city", "formal"), 1.2),
    Brand("Juniper Yard", ("city",), 1.4),
    Brand("Maplefen", ("city", "home"), 0.9),
    Brand("Sunday Ferry", ("city",), 1.1),
    Brand("Ashgrovian", ("formal",), 1.45),
    Brand("Whitcomb Hall", ("formal",), 1.8),
    Brand("Marlfinch", ("formal", "city"), 1.05),
    Brand("Belvanet", ("formal",), 0.8),
    Brand("Woolhaven", ("home",), 1.2),
    Brand("Cosymere", ("home",), 0.8),
    Brand("Softacre", ("home", "work"), 1.0),
    Brand("Ironmoss", ("work",), 1.2),
    Brand("Gritsole", ("work",), 0.8),
    Brand("Wardlight", ("work",), 1.0),
    Brand("Beeswick", ("care",), 1.2),
    Brand("Tinlid", ("care",), 0.8),
    Brand("Sockerby", ("care",), 1.0),
    Brand("Laceworth", ("care",), 1.0),
    Brand("Underfoot & Sons", ("care",), 1.3),
)

COLOURS = (
    "black", "white", "grey", "dark brown", "tan", "navy", "sky blue", "moss green", "olive", "brick red", "burgundy",
    "mustard", "sand", "pink", "teal", "lilac",
)  # fmt: skip

AUDIENCES = ("women", "men", "unisex", "kids")

MODELS = (
    "Heron", "Badger", "Kestrel", "Otter", "Lynx", "Wren", "Curlew", "Marten", "Plover", "Swift", "Linnet", "Merlin",
    "Osprey", "Hare", "Stoat", "Rook", "Tern", "Adder", "Newt", "Raven", "Petrel", "Grouse", "Teal", "Finch", "Sorrel",
    "Bracken", "Heather", "Thistle", "Rowan", "Hazel", "Willow", "Alder", "Clover", "Yarrow", "Nettle", "Bramble",
    "Quartz", "Flint", "Slate", "Basalt", "Cinder", "Pebble", "Ember", "Frost", "Drizzle", "Breeze", "Gale", "Harvest",
    "Lantern", "Compass", "Anchor", "Beacon", "Ferry", "Signal", "Carousel", "Sonnet", "Ballad", "Waltz", "Tango",
    "Polka", "Ledger", "Quill", "Parlour", "Attic", "Orchard", "Meadow", "Hollow", "Summit", "Ridge", "Gully", "Brook",
    "Delta", "Lagoon", "Harbour", "Pier", "Mill", "Forge", "Anvil", "Rivet", "Bolt",
)  # fmt: skip

# Words of a shopper, and what makes an item right for them, in the filter language of the catalogue.
QUERIES = (
    ("waterproof boots for walking in the hills", "category = 'hiking boots' AND waterproof"),
    ("something waterproof to walk the dog",
     "category IN ('walking shoes', 'rain boots', 'hiking boots') AND waterproof"),
    ("wellies for the garden", "category = 'rain boots'"),
    ("rubber boots for children", "category = 'rain boots' AND audience = 'kids'"),
    ("warm boots for snow", "category = 'winter boots'"),
    ("women's winter boots waterproof", "category = 'winter boots' AND waterproof AND audience IN ('women', 'unisex')"),
    ("light shoes for running on forest trails", "category = 'trail running shoes'"),
    ("men's trail shoes waterproof",
     "category = 'trail running shoes' AND waterproof AND audience IN ('men', 'unisex')"),
    ("marathon shoes", "category = 'road running shoes'"),
    ("lightweight road running shoe for women", "category = 'road running shoes' AND audience IN ('women', 'unisex')"),
    ("trainers for lifting weights in the gym", "category = 'gym shoes'"),
    ("football boots for kids", "category = 'football boots' AND audience = 'kids'"),
    ("white leather sneakers", "category = 'sneakers' AND colour = 'white' AND material = 'leather'"),
    ("canvas sneakers for everyday", "category = 'sneakers' AND material = 'canvas'"),
    ("black Chelsea boots for men",
     "category = 'Chelsea boots' AND colour = 'black' AND audience IN ('men', 'unisex')"),
    ("suede ankle boots without laces", "category = 'Chelsea boots' AND material = 'suede'"),
    ("smart loafers for the office", "category = 'loafers'"),
    ("black shoes for a job interview", "category = 'dress shoes' AND colour = 'black'"),
    ("formal shoes for a wedding", "category IN ('dress shoes', 'heels', 'loafers')"),
    ("satin heels for a party", "category = 'heels' AND material = 'satin'"),
    ("red heels", "category = 'heels' AND colour IN ('brick red', 'burgundy')"),
    ("flat shoes that fit in a handbag", "category = 'ballet flats'"),
    ("beach sandals", "category = 'sandals'"),
    ("cork sandals", "category = 'sandals' AND material = 'cork and leather'"),
    ("sandals for hiking and crossing rivers", "category = 'hiking sandals'"),
    ("sheepskin slippers", "category = 'slippers' AND material = 'sheepskin'"),
    ("warm slippers for men", "category = 'slippers' AND audience IN ('men', 'unisex')"),
    ("clogs for long shifts in a kitchen", "category = 'clogs'"),
    ("steel toe shoes for a building site", "category = 'safety shoes'"),
    ("waterproof safety shoes", "category = 'safety shoes' AND waterproof"),
    ("comfortable shoes for nurses", "category = 'nursing shoes'"),
    ("merino socks", "category = 'socks' AND material = 'merino wool'"),
    ("gel insoles", "category = 'insoles' AND material = 'gel'"),
    ("wax to waterproof leather boots", "category = 'shoe care'"),
    ("new laces for my boots", "category = 'laces'"),
    ("keep snow out of my boots", "category = 'gaiters'"),
    ("Tarnbeck hiking boots", "brand = 'Tarnbeck' AND category = 'hiking boots'"),
    ("cheap running shoes", "category IN ('road running shoes', 'trail running shoes') AND price < 90"),
    ("green walking shoes", "category = 'walking shoes' AND colour IN ('moss green', 'olive')"),
    ("blue sneakers for kids", "category = 'sneakers' AND colour IN ('navy', 'sky blue') AND audience = 'kids'"),
)  # fmt: skip
