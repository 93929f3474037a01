//! Blocks: eight cuboids that are compared with a packet at once. They use the processor's SIMD
//! instructions (SSE2, NEON); without those, the cuboids are compared one by one.

use wide::{i16x8, i32x8};

use super::address::Address;
use super::cuboid::{Cuboid, Key, Range};
use super::index::NO_CUBOID;

/// The number of cuboids in a block.
pub(super) const LANES: usize = 8;

/// The cuboids, dimension by dimension, in order of their places. Cuboids of IPv4 are complete.
/// Cuboids of IPv6 have a 32-bit window of each address, so a match here must be checked against the full
/// addresses.
///
/// First numbers and spans are stored with their highest bit flipped, since processors compare with
/// signs: `number - first <= span` then becomes `number - (first ^ top) <= (span ^ top)`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Block {
    source: i32x8,
    source_span: i32x8,
    destination: i32x8,
    destination_span: i32x8,
    /// The source port, or the ICMP type.
    first: i16x8,
    first_span: i16x8,
    /// The destination port, or the ICMP code.
    second: i16x8,
    second_span: i16x8,
    /// The protocol with its kind.
    protocol: i16x8,
    protocol_span: i16x8,
    /// The number of each cuboid; [`NO_CUBOID`] in an empty lane.
    numbers: [u32; LANES],
}

/// A packet in the form that blocks compare: each of its numbers eight times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    source: i32x8,
    destination: i32x8,
    first: i16x8,
    second: i16x8,
    /// The protocol with its kind.
    protocol: i16x8,
}

impl Probe {
    /// Makes the probe of a packet from the lowest 32 bits of its addresses: for IPv4, all of them.
    #[inline]
    pub(super) fn new<A: Address>(key: &Key<A>) -> Self {
        let Key { source, destination, first, second, protocol: _, kind: _ } = *key;
        Self {
            source: i32x8::splat(source.window(0).cast_signed()),
            destination: i32x8::splat(destination.window(0).cast_signed()),
            first: i16x8::splat(first.cast_signed()),
            second: i16x8::splat(second.cast_signed()),
            protocol: i16x8::splat(key.protocol_number().cast_signed()),
        }
    }

    /// The same packet with another window of its addresses, if they are wide.
    #[inline]
    pub(super) fn shifted<A: Address>(self, key: &Key<A>, shifts: Shifts) -> Self {
        if !A::IS_WIDE {
            return self;
        }
        Self {
            source: i32x8::splat(key.source.window(shifts.source).cast_signed()),
            destination: i32x8::splat(key.destination.window(shifts.destination).cast_signed()),
            ..self
        }
    }
}

/// How far the windows of a block's addresses are shifted, in bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shifts {
    pub(super) source: u8,
    pub(super) destination: u8,
}

impl Block {
    /// Makes a block of at most [`LANES`] cuboids that are in order, each with its number.
    pub(super) fn new<A: Address>(cuboids: &[(u32, &Cuboid<A>)], shifts: Shifts) -> Self {
        /// One number of each cuboid, with its highest bit flipped.
        fn long<A>(cuboids: &[(u32, &Cuboid<A>)], number: impl Fn(&Cuboid<A>) -> u32) -> i32x8 {
            let top = 1 << 31;
            let mut lanes = [0_i32; LANES];
            for (lane, (_, cuboid)) in lanes.iter_mut().zip(cuboids) {
                *lane = (number(cuboid) ^ top).cast_signed();
            }
            i32x8::new(lanes)
        }
        fn short<A>(
            cuboids: &[(u32, &Cuboid<A>)],
            none: u16,
            number: impl Fn(&Cuboid<A>) -> u16,
        ) -> i16x8 {
            let mut lanes = [none.cast_signed(); LANES];
            for (lane, (_, cuboid)) in lanes.iter_mut().zip(cuboids) {
                *lane = number(cuboid).cast_signed();
            }
            i16x8::new(lanes)
        }
        let top = 1 << 15;
        let source = |it: &Cuboid<A>| Window::of(it.sources(), shifts.source);
        let destination = |it: &Cuboid<A>| Window::of(it.destinations(), shifts.destination);
        let mut numbers = [NO_CUBOID; LANES];
        for (number, (of_cuboid, _)) in numbers.iter_mut().zip(cuboids) {
            *number = *of_cuboid;
        }
        Self {
            source: long(cuboids, |it| source(it).first),
            source_span: long(cuboids, |it| source(it).span),
            destination: long(cuboids, |it| destination(it).first),
            destination_span: long(cuboids, |it| destination(it).span),
            first: short(cuboids, 0, |it| it.first ^ top),
            first_span: short(cuboids, 0, |it| it.first_span ^ top),
            second: short(cuboids, 0, |it| it.second ^ top),
            second_span: short(cuboids, 0, |it| it.second_span ^ top),
            // An empty lane accepts only a protocol that does not exist.
            protocol: short(cuboids, !0 ^ top, |it| it.protocol ^ top),
            protocol_span: short(cuboids, top, |it| it.protocol_span ^ top),
            numbers,
        }
    }

    /// The cuboids that hold a packet, as a bit mask.
    #[inline]
    pub(super) fn holding(&self, probe: &Probe) -> u32 {
        let is_elsewhere = (probe.source - self.source).simd_gt(self.source_span)
            | (probe.destination - self.destination).simd_gt(self.destination_span);
        let is_elsewhere = i16x8::from_i32x8_saturate(is_elsewhere)
            | (probe.first - self.first).simd_gt(self.first_span)
            | (probe.second - self.second).simd_gt(self.second_span)
            | (probe.protocol - self.protocol).simd_gt(self.protocol_span);
        (!is_elsewhere).to_bitmask()
    }

    /// The cuboids that hold a packet if its first number (the source port) is ignored, as a bit mask.
    pub(super) fn holding_at_some_port(&self, probe: &Probe) -> u32 {
        self.holding(&Probe { first: self.first ^ i16x8::splat(i16::MIN), ..*probe })
    }

    /// The first numbers (the source ports) that a cuboid holds.
    pub(super) fn ports(&self, lane: u32) -> Range<u16> {
        let top = 1 << 15;
        let at = |lanes: &i16x8| {
            let lanes = lanes.as_array();
            lanes.get(lane as usize % LANES).map_or(0, |it| it.cast_unsigned() ^ top)
        };
        let first = at(&self.first);
        (first, first.wrapping_add(at(&self.first_span)))
    }

    /// The number of the first cuboid in a bit mask, or [`NO_CUBOID`] if the mask is empty. Branchless,
    /// since whether the mask is empty cannot be predicted.
    #[inline]
    pub(super) fn first_of(&self, cuboids: u32) -> u32 {
        self.number(cuboids.trailing_zeros()) | u32::from(cuboids == 0).wrapping_neg()
    }

    /// All numbers.
    pub(super) const fn numbers_mut(&mut self) -> &mut [u32; LANES] {
        &mut self.numbers
    }

    /// The number of a cuboid.
    #[inline]
    pub(super) fn number(&self, lane: u32) -> u32 {
        self.numbers.get(lane as usize % LANES).copied().unwrap_or(NO_CUBOID)
    }
}

/// A range of addresses in the form that a block stores. It holds every address of the range; for
/// 32-bit addresses it holds no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    first: u32,
    span: u32,
}

impl Window {
    fn of<A: Address>((first, last): Range<A>, shift: u8) -> Self {
        let shift = u32::from(shift);
        let first = first.above(shift);
        let span = last.above(shift).wrapping_sub(first);
        let is_wider = span.above(u32::BITS) != A::ZERO;
        Self { first: first.window(0), span: if is_wider { u32::MAX } else { span.window(0) } }
    }

    const fn meets(self, other: Self) -> bool {
        self.first.wrapping_sub(other.first) <= other.span
            || other.first.wrapping_sub(self.first) <= self.span
    }
}

/// The window that separates most pairs of the ranges; `likely` is tried first. Only the first
/// [`LANES`] ranges count, since this runs for each node.
pub(super) fn most_selective_window<A: Address>(
    ranges: impl Iterator<Item = Range<A>>,
    likely: u8,
) -> u8 {
    /// The step between windows: half a window, so that no difference falls between two windows.
    const STEP: usize = 16;
    /// A window with so many numbers is narrow enough for all ranges together.
    const NARROW: u64 = 1 << 20;
    if !A::IS_WIDE {
        return 0;
    }
    let (mut all, mut count) = ([(A::ZERO, A::ZERO); LANES], 0);
    for (place, range) in all.iter_mut().zip(ranges) {
        *place = range;
        count += 1;
    }
    let ranges = all.get(..count).unwrap_or(&all);
    let highest = A::MAX.width().saturating_sub(u32::BITS).try_into().unwrap_or(0);
    let shifts = std::iter::once(likely).chain((0..=highest).step_by(STEP));
    // No window separates ranges that overlap.
    let least = pairs(ranges, |one, other| one.0 <= other.1 && other.0 <= one.1);
    let (mut best, mut fewest) = (likely, (usize::MAX, u64::MAX));
    for shift in shifts {
        let mut windows = [Window { first: 0, span: 0 }; LANES];
        for (window, range) in windows.iter_mut().zip(ranges) {
            *window = Window::of(*range, shift);
        }
        let windows = windows.get(..count).unwrap_or(&windows);
        let alike = pairs(windows, |one, other| one.meets(*other));
        // Wide ranges overlap in each window. The narrower they are in a window, the more packets
        // are outside.
        let width = windows.iter().map(|window| u64::from(window.span)).sum();
        if (alike, width) < fewest {
            (best, fewest) = (shift, (alike, width));
        }
        if alike == least && width <= NARROW {
            break;
        }
    }
    best
}

/// The number of pairs for which a predicate holds.
fn pairs<T>(all: &[T], is: impl Fn(&T, &T) -> bool) -> usize {
    let behind = |place: usize| all.get(place + 1..).unwrap_or(&[]);
    let count = |(place, one)| behind(place).iter().filter(|other| is(one, other)).count();
    all.iter().enumerate().map(count).sum()
}
