"""The names of the classes of every data set, in the order of the labels. Never imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normbench.data.shape import Shape

if TYPE_CHECKING:
    from normbench.spec import DataSpec

#: Data set → names, as its authors give them. Sets of digits have none: their classes are 0 to 9.
_NAMES = {
    "fashion_mnist": "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot",
    "cifar10": "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck",
    "cifar100": (
        "apple,aquarium_fish,baby,bear,beaver,bed,bee,beetle,bicycle,bottle,bowl,boy,bridge,bus,butterfly,"
        "camel,can,castle,caterpillar,cattle,chair,chimpanzee,clock,cloud,cockroach,couch,crab,crocodile,cup,"
        "dinosaur,dolphin,elephant,flatfish,forest,fox,girl,hamster,house,kangaroo,keyboard,lamp,lawn_mower,"
        "leopard,lion,lizard,lobster,man,maple_tree,motorcycle,mountain,mouse,mushroom,oak_tree,orange,"
        "orchid,otter,palm_tree,pear,pickup_truck,pine_tree,plain,plate,poppy,porcupine,possum,rabbit,"
        "raccoon,ray,road,rocket,rose,sea,seal,shark,shrew,skunk,skyscraper,snail,snake,spider,squirrel,"
        "streetcar,sunflower,sweet_pepper,table,tank,telephone,television,tiger,tractor,train,trout,tulip,"
        "turtle,wardrobe,whale,willow_tree,wolf,woman,worm"
    ),
}


def class_names(spec: DataSpec, shape: Shape) -> tuple[str, ...]:
    """One name per class; numbers where the data set has no names.

    Raises:
        InputError: the files of a folder data set cannot be read.
    """
    if spec.name == "folder" and spec.path and spec.fingerprint:
        from normbench.data.folder_index import index_folder

        return index_folder(spec.path, spec.fingerprint).classes
    if spec.name in _NAMES:
        return tuple(_NAMES[spec.name].split(","))
    return tuple(map(str, range(shape.classes)))
