"""What a person who has seen the six clips might type to find them again: 40 queries a clip, and four held out.

Written from looking at the clips, before any encoder was tried on them, and not changed after. Wording varies on
purpose: single nouns, actions, scenes, whole sentences, some vague. `HELD_OUT` takes no part in any choice.
"""

from __future__ import annotations

__all__ = ["HELD_OUT", "QUERIES", "REWORDED"]

HELD_OUT = {
    "a person playing basketball": "basketball",
    "a cartoon rabbit in the grass": "bigbuckbunny",
    "a man with a bow tie in a car": "carphone_pristine",
    "cars and bicycles in a street": "bikes",
}

# Other words for the held-out ones, to see how much hangs on the wording; they take no part in any choice either.
REWORDED = {
    "basketball": (
        "playing basketball",
        "someone throws a ball into a hoop",
        "a basketball game",
        "basketball players indoors",
        "people doing sports in a hall",
    ),
    "bigbuckbunny": (
        "cartoon rabbit",
        "an animated bunny on a meadow",
        "big buck bunny",
        "a hare in the grass",
        "a grey animal outside its burrow",
    ),
    "carphone_pristine": (
        "man with bow tie",
        "a man in a car",
        "a person in a suit sitting in a vehicle",
        "someone talking while driving",
        "a passenger dressed for a party",
    ),
    "bikes": (
        "bicycles",
        "a street with cars",
        "bikes and cars in the city",
        "cyclists in traffic",
        "vehicles on a road",
    ),
}

_TEXT = {
    "arm_wrestling": """
        arm wrestling
        two boys arm wrestling
        two young men wrestle with their arms on a table
        a test of strength at a table
        hands gripping each other
        a teenager with a white baseball cap
        someone wearing a white cap and glasses
        a boy in a white t-shirt
        friends fooling around in a cafeteria
        a crowded canteen
        people sitting at tables in a school cafeteria
        bottles of juice on a table
        a bottle on a wooden table
        two people sitting opposite each other
        a contest between two teenagers
        who is stronger
        a strong arm
        muscles and clenched fists
        holding hands tightly across a table
        a diner with red chairs
        students at lunch
        a checkered floor in a restaurant
        a person with long dark hair in a black shirt
        a boy with glasses laughing
        an arm wrestling match filmed from close up
        kids competing at school
        a duel of arms
        people in the background watching
        table with drinks
        lunch break
        a fight without violence
        pushing the other's arm down
        effort and strain
        indoor restaurant scene
        a group of teenagers at a table
        a wooden table with bottles
        a man in black against a man in white
        elbow on the table
        a shaky video of two guys competing
        a sports competition at a table
    """,
    "basketball": """
        basketball
        basketball practice in a gym
        kids shooting hoops
        a girl throws a ball at the basket
        players training with several balls
        a sports hall with a wooden floor
        a gymnasium
        children playing a ball game indoors
        a boy in a blue shirt with a ball
        shooting a free throw
        a basketball hoop and backboard
        dribbling around cones
        a coach with two players
        team sport training
        physical education class
        athletes warming up
        a person jumps and throws a ball
        an indoor court
        catching a rebound
        orange balls on the floor
        a sports lesson
        people running in a gym
        a ball flies through the air
        someone exercising in a sports hall
        young athletes
        playing sports indoors
        school gym with blue walls
        passing the ball to a team mate
        a player practising jump shots
        a man in black crossing the court
        scoring a basket
        wooden bleachers in a gym
        court lines on a floor
        gym equipment against the wall
        a ball game
        workout in a gym
        two players and a ball
        high school sports
        a training drill
        throwing and catching
    """,
    "bigbuckbunny": """
        a big rabbit
        an animated film about a bunny
        a fat grey bunny comes out of its burrow
        a rabbit yawns and stretches
        cartoon animal
        a computer-generated animal
        an animal wakes up in the morning
        a green meadow with a hole under a tree
        a furry creature stretching its arms
        a giant hare in a field
        a cave in a hill covered with grass
        an animal leaves its den
        a children's cartoon
        funny animal character
        grass and flowers
        a sunny green landscape
        a chubby animal with long ears
        wildlife
        a mammal in nature
        a sleepy bunny
        a pet rabbit
        a soft grey animal standing upright
        3d animation
        nature scene with rocks and trees
        a burrow
        spring in a forest clearing
        fairy tale meadow
        an animal in the wild
        big ears
        a fluffy animal outdoors
        a rabbit hole
        a friendly monster in the grass
        animal on a lawn
        a forest animal
        stretching after sleep
        an easter bunny
        a creature emerges from the dark
        moss and mountains
        a fantasy creature
        a plump animal opens its mouth
    """,
    "bikes": """
        a city street with traffic
        a cyclist with a helmet
        a man riding a bicycle
        parked bicycles
        a taxi in the city
        a tram passing by
        bicycles behind a fence
        cars driving on a road
        a bike chained to a railing
        urban traffic
        rush hour in town
        someone cycling past a tram
        a motorcycle parked by the road
        a row of cars
        old houses along a street
        public transport
        a commuter on a racing bike
        vehicles
        close-up of a bicycle wheel
        a metal fence by the road
        a crossroads in a European town
        the spokes of a wheel
        road traffic seen through railings
        a black car
        a bicycle pedal and chain
        a street scene
        buses and cars downtown
        a view of the town
        city life
        waiting at the traffic light
        a biker on the road
        outdoor scene in a city
        a bike ride through the city
        apartment buildings and parked cars
        a doorbell on a wall
        transport in Brussels
        a bicycle stand
        cars in a traffic jam
        a silver car behind a fence
        wheels
    """,
    "carphone_pristine": """
        a man talking in a car
        a man wearing a suit
        a bow tie
        someone on a video call from a car
        a person on the back seat
        a passenger in a moving car
        a gentleman in formal dress
        a man in a tuxedo speaks to the camera
        a red bow tie and a white shirt
        a talking head
        riding in a car
        an elegant man is driven around
        the inside of a car
        a face close up
        a man looks surprised
        a man with brown hair
        landscape passing behind a car window
        a chat during a drive
        a wedding guest in a limousine
        a well-dressed young man
        portrait of a man
        a person wearing a black jacket
        car interior with a man
        a man opens his mouth
        a news reporter in a car
        an actor making faces
        a seat with blue stripes
        formal wear
        someone explaining something
        businessman travelling by car
        a selfie video in a vehicle
        a groom on the way to his wedding
        dinner jacket
        a man with his eyes wide open
        conversation in a car
        a car ride on a highway
        a man in evening dress
        seat belts and car windows
        a man's head and shoulders
        a chauffeur
    """,
    "two_men": """
        two men hugging
        two people meet and embrace
        friends greet each other
        two men standing in an empty office
        a hug
        a white room with loudspeakers
        two people in a bare room
        a man in a grey shirt and a man in black
        an empty room with a desk in the corner
        people shaking hands
        a reunion of two friends
        a meeting of two colleagues
        an acting scene in a studio
        loudspeakers on the wall
        a large room with a dark carpet
        a desk with computers and papers
        two persons walking towards each other
        a man with glasses embraces another
        an office with a green chair
        two figures against a white wall
        office workers saying goodbye
        a dance studio
        a conference room
        indoor scene with two people standing
        affection between friends
        a martial arts exercise
        a rehearsal room
        a human action recorded for a data set
        people standing in an office
        a green office chair
        two adults face each other
        a wide shot of a room
        a lab with people
        a spacious hall with a dark floor
        patting someone on the back
        a warm welcome
        two guys in a room
        a person holds a tennis racket
        a seminar room
        a security camera view of two men
    """,
}

QUERIES = {clip: tuple(line.strip() for line in text.strip().splitlines()) for clip, text in _TEXT.items()}
