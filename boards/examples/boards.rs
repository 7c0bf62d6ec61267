// SPDX-License-Identifier: Apache-2.0
//! Prints the boards that images are built for: name, architecture, description.

fn main() {
    for board in racklet_boards::all() {
        println!(
            "{} {} {}",
            board.name, board.architecture, board.description
        );
    }
}
