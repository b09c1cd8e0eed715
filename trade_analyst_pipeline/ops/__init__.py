"""Operations: health report and logs."""
