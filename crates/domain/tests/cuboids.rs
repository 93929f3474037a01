//! Tests that an index of cuboids gives the same answers as a scan over them, at every edge.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test reports a failure by panicking"
)]

use fireflow_domain::engine::classifier::{
    ALL_PORTS, Address, Budget, Cuboid, CuboidParts, Index, Key, NO_CUBOID, kind,
};
use fireflow_domain::testing::random::cases;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Numbers at edges: at the bits where windows begin, and where signs change.
fn edges<T: TryFrom<u128> + std::fmt::Debug + Clone + 'static>(
    bits: u32,
) -> impl Strategy<Value = T> {
    let edge = (0..=bits / 16).prop_map(move |it| 1_u128.checked_shl(16 * it).unwrap_or(0));
    let near = (edge, 0..4_u128, select(&[1_u128, 0x8000, 0x8000_0000][..]));
    near.prop_map(move |(edge, below, other)| {
        let number = edge.wrapping_sub(below) ^ if below == 3 { other } else { 0 };
        T::try_from(number & u128::MAX.checked_shr(128 - bits).unwrap_or(0)).ok().unwrap()
    })
}

fn ranges<T: Ord + Copy + std::fmt::Debug + TryFrom<u128> + 'static>(
    bits: u32,
) -> impl Strategy<Value = (T, T)> {
    (edges(bits), edges(bits), any::<bool>()).prop_map(|(one, other, is_one): (T, T, bool)| {
        if is_one { (one, one) } else { (one.min(other), one.max(other)) }
    })
}

fn cuboids<A: Address + TryFrom<u128>>(bits: u32) -> impl Strategy<Value = Vec<Cuboid<A>>> {
    let number = (0..=kind::OPAQUE, select(&[0_u8, 1, 6, 7, 255][..]))
        .prop_map(|(kind, protocol)| kind::number(kind, protocol));
    let between =
        (number.clone(), number.clone()).prop_map(|(one, other)| (one.min(other), one.max(other)));
    let protocols = prop_oneof![
        Just(kind::ANY),
        Just(kind::all(kind::PORTS)),
        number.prop_map(|it| (it, it)),
        between,
    ];
    let parts = (ranges(bits), ranges(bits), ranges(16), ranges(16), protocols);
    vec(parts, 1..30).prop_map(|all| {
        let cuboid = |((source, destination, first, second, protocols), order)| {
            let parts = CuboidParts {
                source,
                destination,
                first,
                second,
                protocols,
                is_conditional: false,
                order,
            };
            Cuboid::new(&parts)
        };
        all.into_iter().zip(0..).map(cuboid).collect()
    })
}

/// Packets at the corners of cuboids, and packets that are outside by one in one dimension.
fn around<A: Address>(cuboids: &[Cuboid<A>], one: A) -> Vec<Key<A>> {
    let mut all = Vec::new();
    for (cuboid, number) in cuboids.iter().zip(0_u32..) {
        for corner in 0..16 {
            let kind = [kind::PORTS, kind::ICMP, kind::OPAQUE][(number + corner) as usize % 3];
            let key = Key { kind, ..cuboid.corner(corner) };
            all.push(Key { protocol: 7, ..key });
            all.push(Key { source: key.source.wrapping_add(one), ..key });
            all.push(Key { destination: key.destination.wrapping_sub(one), ..key });
            all.push(Key { first: key.first.wrapping_sub(1), ..key });
            all.push(Key { second: key.second.wrapping_add(1), ..key });
            all.push(key);
        }
    }
    all
}

fn first_cuboid<A: Address>(cuboids: &[Cuboid<A>], key: &Key<A>) -> u32 {
    cuboids.iter().find(|it| it.holds(key)).map_or(NO_CUBOID, Cuboid::order)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(400)))]

    #[test]
    fn cuboids_of_ipv4_hold_what_lies_in_them_to_the_last_bit(cuboids in cuboids::<u32>(32)) {
        let index = Index::build(&cuboids, Budget::default()).unwrap();
        for key in around(&cuboids, 1) {
            prop_assert_eq!(index.find(&key), first_cuboid(&cuboids, &key), "{:?}", key);
        }
    }

    /// Blocks have only windows of such addresses.
    #[test]
    fn cuboids_of_ipv6_hold_what_lies_in_them_to_the_last_bit(cuboids in cuboids::<u128>(128)) {
        let index = Index::build(&cuboids, Budget::default()).unwrap();
        for key in around(&cuboids, 1) {
            prop_assert_eq!(index.find(&key), first_cuboid(&cuboids, &key), "{:?}", key);
        }
    }
}

#[test]
fn places_beyond_what_a_block_can_have_are_refused() {
    let parts = |order| CuboidParts::<u32> {
        source: (0, 1),
        destination: (0, 1),
        first: ALL_PORTS,
        second: ALL_PORTS,
        protocols: kind::ANY,
        is_conditional: false,
        order,
    };
    let build = |order| Index::build(&[Cuboid::new(&parts(order))], Budget::default());
    let corner = Cuboid::new(&parts(0)).corner(0);
    let most = (1 << 31) - 1;
    assert_eq!(build(most).unwrap().find(&corner), most);
    build(most + 1).unwrap_err();
    build(NO_CUBOID).unwrap_err();
}
