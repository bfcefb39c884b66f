//! What patterns have in common: whether two can match one name, whether some leave another nothing.
//!
//! Each pattern is a small automaton over the characters that occur in any of them, all others being
//! alike. Two are walked together to find the shortest name that both match; one is walked against
//! the set of states that the others may be in to find a name that none of them matches.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{Pattern, Tail};

/// How many steps [`Pattern::covered_by`] takes before it gives up. Patterns that people write need
/// a few hundred; dozens made to defeat it could need exponentially many.
const MAX_STEPS: usize = 500_000;

impl Pattern {
    /// Whether there is a name that both match.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self.exact(), other.exact()) {
            (Some(one), Some(two)) => one == two,
            (Some(name), None) => other.matches(name).is_some(),
            (None, Some(name)) => self.matches(name).is_some(),
            (None, None) => self.common_name(other).is_some(),
        }
    }

    /// One of the shortest names that both match.
    pub fn common_name(&self, other: &Self) -> Option<String> {
        if !self.may_overlap(other) {
            return None;
        }
        let alphabet = Alphabet::of(&[self, other]);
        let word = common_word(
            &alphabet.automaton(self),
            &alphabet.automaton(other),
            &alphabet,
        )?;
        Some(alphabet.spell(&word))
    }

    /// Whether every name that it matches is matched by one of the others.
    ///
    /// Exact for all but contrived sets of patterns: past a bound on its own work it says no.
    pub fn covered_by(&self, others: &[&Self]) -> bool {
        match self.exact() {
            Some(name) => others.iter().any(|other| other.matches(name).is_some()),
            None => self.name_left_by(others) == Some(None),
        }
    }

    /// One of the shortest names that it matches and none of the others does, if there is one; no
    /// answer past a bound on its own work.
    pub(super) fn name_left_by(&self, others: &[&Self]) -> Option<Option<String>> {
        let near = others
            .iter()
            .copied()
            .filter(|other| self.may_overlap(other));
        let all: Vec<&Self> = std::iter::once(self).chain(near).collect();
        let alphabet = Alphabet::of(&all);
        let covers: Vec<Automaton> = all[1..]
            .iter()
            .map(|other| alphabet.automaton(other))
            .collect();
        let word = word_left(&alphabet.automaton(self), &covers, &alphabet)?;
        Some(word.map(|word| alphabet.spell(&word)))
    }

    /// A cheap test that is never wrong when it says no: what both begin with must agree.
    fn may_overlap(&self, other: &Self) -> bool {
        let (one, two) = (&*self.head, &*other.head);
        one.starts_with(two) || two.starts_with(one)
    }
}

/// The characters that some pattern names, by number; one number more stands for all others.
struct Alphabet {
    chars: Vec<char>,
    numbers: HashMap<char, usize>,
}

impl Alphabet {
    fn of(patterns: &[&Pattern]) -> Self {
        let mut alphabet = Self {
            chars: Vec::new(),
            numbers: HashMap::new(),
        };
        for pattern in patterns {
            for text in pattern.literals().chain([&*pattern.boundary]) {
                text.chars().for_each(|c| alphabet.add(c));
            }
        }
        alphabet
    }

    fn add(&mut self, c: char) {
        if let std::collections::hash_map::Entry::Vacant(free) = self.numbers.entry(c) {
            free.insert(self.chars.len());
            self.chars.push(c);
        }
    }

    fn size(&self) -> usize {
        self.chars.len() + 1
    }

    fn number(&self, text: &str) -> Vec<usize> {
        text.chars()
            .map(|c| self.numbers.get(&c).copied().unwrap_or(self.chars.len()))
            .collect()
    }

    fn spell(&self, word: &[usize]) -> String {
        let friendly = ('x'..='z').chain('a'..='w').chain('\u{100}'..=char::MAX);
        let other = friendly
            .into_iter()
            .find(|c| !self.numbers.contains_key(c))
            .unwrap_or('x');
        word.iter()
            .map(|number| self.chars.get(*number).copied().unwrap_or(other))
            .collect()
    }

    fn automaton(&self, pattern: &Pattern) -> Automaton {
        let mut nodes: Vec<Node> = self
            .number(&pattern.head)
            .into_iter()
            .map(Node::Literal)
            .collect();
        let boundary = Boundary::new(self.number(&pattern.boundary));
        for (index, capture) in pattern.captures.iter().enumerate() {
            let inside = nodes.len() + 1;
            if pattern.tail == Tail::Rest && index + 1 == pattern.captures.len() {
                nodes.extend([Node::First, Node::Loop]);
                return Automaton { nodes, boundary };
            }
            let after = inside + boundary.progress();
            nodes.push(Node::Inside {
                inside,
                progress: 0,
                after,
            });
            nodes.extend((0..boundary.progress()).map(|progress| Node::Inside {
                inside,
                progress,
                after,
            }));
            nodes.extend(self.number(&capture.after).into_iter().map(Node::Literal));
        }
        nodes.push(if pattern.tail == Tail::Anything {
            Node::Loop
        } else {
            Node::End
        });
        Automaton { nodes, boundary }
    }
}

/// A state of a pattern, by its place among the nodes.
#[derive(Clone, Copy)]
enum Node {
    /// Takes this character and goes on to the next node.
    Literal(usize),
    /// In a bounded capture, with this much of the boundary just read; the first such node of a
    /// capture is before its first character. Its nodes by progress start at `inside`, what follows
    /// the capture is at `after`.
    Inside {
        inside: usize,
        progress: usize,
        after: usize,
    },
    /// Takes anything and goes on to the next node.
    First,
    /// Takes anything and stays; the name matches already.
    Loop,
    /// The name matches if it ends here.
    End,
}

/// Follows how much of the boundary the last characters are.
struct Boundary {
    text: Vec<usize>,
}

impl Boundary {
    fn new(text: Vec<usize>) -> Self {
        Self { text }
    }

    /// How many states there are to tell apart.
    fn progress(&self) -> usize {
        self.text.len().max(1)
    }

    /// The progress after one more character; `None` once the boundary is complete.
    fn step(&self, progress: usize, number: usize) -> Option<usize> {
        if self.text.is_empty() {
            return Some(0);
        }
        let mut read = self.text[..progress].to_vec();
        read.push(number);
        let longest = (0..read.len()).find(|skip| self.text.starts_with(&read[*skip..]));
        let progress = longest.map_or(0, |skip| read.len() - skip);
        (progress < self.text.len()).then_some(progress)
    }
}

struct Automaton {
    nodes: Vec<Node>,
    boundary: Boundary,
}

impl Automaton {
    /// Calls `reach` with every state that the automaton may be in after this character.
    fn step(&self, state: usize, number: usize, mut reach: impl FnMut(usize)) {
        match self.nodes[state] {
            Node::Literal(wanted) if wanted == number => reach(state + 1),
            Node::First => reach(state + 1),
            Node::Loop => reach(state),
            Node::Inside {
                inside,
                progress,
                after,
            } => {
                if let Some(progress) = self.boundary.step(progress, number) {
                    reach(inside + progress);
                    reach(after);
                }
            }
            Node::Literal(_) | Node::End => {}
        }
    }

    /// The one character that leads on from here, where there is but one.
    fn only(&self, state: usize) -> Option<usize> {
        if let Node::Literal(number) = self.nodes[state] {
            Some(number)
        } else {
            None
        }
    }

    fn accepts(&self, state: usize) -> bool {
        matches!(self.nodes[state], Node::Loop | Node::End)
    }

    fn accepts_all(&self, state: usize) -> bool {
        matches!(self.nodes[state], Node::Loop)
    }
}

/// The shortest word that both accept.
fn common_word(one: &Automaton, two: &Automaton, alphabet: &Alphabet) -> Option<Vec<usize>> {
    type Pair = (usize, usize);
    let mut came_from: HashMap<Pair, Option<(Pair, usize)>> = HashMap::from([((0, 0), None)]);
    let mut queue = VecDeque::from([(0, 0)]);
    while let Some(pair) = queue.pop_front() {
        if one.accepts(pair.0) && two.accepts(pair.1) {
            let back = |pair: &Pair| came_from.get(pair).copied().flatten();
            let steps = std::iter::successors(back(&pair), |(before, _)| back(before));
            let mut word: Vec<usize> = steps.map(|(_, number)| number).collect();
            word.reverse();
            return Some(word);
        }
        let only = one.only(pair.0).or_else(|| two.only(pair.1));
        // The character that no pattern names comes first, so that examples read as plain text.
        let numbers = only
            .map_or_else(|| 0..alphabet.size(), |number| number..number + 1)
            .rev();
        for number in numbers {
            one.step(pair.0, number, |first| {
                two.step(pair.1, number, |second| {
                    came_from.entry((first, second)).or_insert_with(|| {
                        queue.push_back((first, second));
                        Some((pair, number))
                    });
                });
            });
        }
    }
    None
}

/// The shortest word that `subject` accepts and none of `covers` does; no answer after
/// [`MAX_STEPS`].
fn word_left(
    subject: &Automaton,
    covers: &[Automaton],
    alphabet: &Alphabet,
) -> Option<Option<Vec<usize>>> {
    // The subject's state, and which states which of the covers may be in.
    type Joint = (usize, Vec<(usize, usize)>);
    let start: Joint = (0, (0..covers.len()).map(|cover| (cover, 0)).collect());
    let mut seen = HashSet::from([start.clone()]);
    // Each with the step that led to it: from which place in this list, by which character.
    let mut found: Vec<(Joint, Option<(usize, usize)>)> = vec![(start, None)];
    let (mut current, mut steps) = (0, 0);
    while let Some(((state, others), _)) = found.get(current).cloned() {
        let any = |of: fn(&Automaton, usize) -> bool| {
            others.iter().any(|(cover, at)| of(&covers[*cover], *at))
        };
        if subject.accepts(state) && !any(Automaton::accepts) {
            let back = |(_, step): &(Joint, Option<(usize, usize)>)| *step;
            let path =
                std::iter::successors(back(&found[current]), |(before, _)| back(&found[*before]));
            let mut word: Vec<usize> = path.map(|(_, number)| number).collect();
            word.reverse();
            return Some(Some(word));
        }
        // Once a cover takes whatever follows, nothing is left on this way.
        let numbers = match subject.only(state) {
            _ if any(Automaton::accepts_all) => 0..0,
            Some(number) => number..number + 1,
            None => 0..alphabet.size(),
        };
        for number in numbers.rev() {
            steps += 1 + others.len();
            if steps > MAX_STEPS {
                return None;
            }
            let mut reached = Vec::new();
            for (cover, at) in &others {
                covers[*cover].step(*at, number, |next| reached.push((*cover, next)));
            }
            reached.sort_unstable();
            reached.dedup();
            subject.step(state, number, |next| {
                let joint = (next, reached.clone());
                if seen.insert(joint.clone()) {
                    found.push((joint, Some((current, number))));
                }
            });
        }
        current += 1;
    }
    Some(None)
}
